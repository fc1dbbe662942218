// Frequencies of rotary positions (Su et al. 2021) and how checkpoints stretch them, as transformers' modeling_rope_utils
// computes them, in double precision.
import type { ConfigReader } from './config.js'
import type { Rope } from './spec.js'

export interface RopeSetting {
  rope: Rope
  /** Longest sequence these frequencies hold for, where the scheme changes them with the length; and its name. */
  limit: { positions: number; scheme: string } | null
}

type Parameters = Readonly<Record<string, unknown>>

export interface RopeOptions {
  headDim: number
  /** max_position_embeddings */
  maxPositions: number
  /** Where theta stands when it is not among the parameters: the value of "rope_theta". */
  theta?: number
  /** Share of the head that turns, where the parameters do not say. */
  partial?: number
}

/**
 * The rotary setting of config.json in both spellings: "rope_parameters" (transformers 5), or "rope_scaling" beside
 * "rope_theta" (4). `layerType` picks one of several by name.
 */
export function readRope(c: ConfigReader, options: RopeOptions, layerType?: string): RopeSetting {
  const field = c.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling'
  const given = c.value(field) ?? {}
  if (typeof given !== 'object' || Array.isArray(given)) return c.refuse(field, 'an object')
  const nested = layerType === undefined ? undefined : (given as Parameters)[layerType]
  const outer = nested === undefined ? (given as Parameters) : (nested as Parameters)
  return ropeOf(c, field, outer, { theta: c.number('rope_theta', 10000), ...options })
}

/** One set of rotary parameters. Errors: an unknown scheme, a parameter that is missing or no number. */
export function ropeOf(c: ConfigReader, field: string, parameters: Parameters, options: RopeOptions): RopeSetting {
  const number = (name: string, fallback?: number): number => {
    const v = parameters[name] ?? fallback
    return typeof v === 'number' && Number.isFinite(v) && v > 0 ? v : c.refuse(field, `a number above 0 as "${name}"`)
  }
  const theta = number('rope_theta', options.theta ?? 10000)
  const dims = Math.trunc(options.headDim * number('partial_rotary_factor', options.partial ?? 1))
  if (dims < 2 || dims % 2) return c.refuse(field, `an even number of rotary elements of the ${options.headDim} of a head`)
  const plain = Array.from({ length: dims / 2 }, (_, i) => theta ** ((-2 * i) / dims))
  const scheme = parameters['rope_type'] ?? parameters['type'] ?? 'default'
  const original = (): number => c.value('original_max_position_embeddings') === undefined ? number('original_max_position_embeddings', options.maxPositions) : c.integer('original_max_position_embeddings')
  const fixed = (frequencies: number[], attentionFactor = 1): RopeSetting => ({ rope: { frequencies, attentionFactor }, limit: null })
  switch (scheme) {
    case 'default':
      return fixed(plain)
    case 'linear':
      return fixed(plain.map((f) => f / number('factor')))
    case 'llama3':
      return fixed(llama3(plain, { factor: number('factor'), low: number('low_freq_factor'), high: number('high_freq_factor'), original: original() }))
    case 'yarn': {
      const factor = parameters['factor'] === null || parameters['factor'] === undefined ? options.maxPositions / original() : number('factor')
      const range = { theta, dims, original: original(), fast: number('beta_fast', 32), slow: number('beta_slow', 1), truncate: parameters['truncate'] !== false }
      return fixed(yarn(plain, factor, range), yarnAttention(parameters, factor, number))
    }
    case 'dynamic':
      number('factor')
      return { rope: { frequencies: plain, attentionFactor: 1 }, limit: { positions: options.maxPositions, scheme: 'dynamic' } }
    case 'longrope':
    case 'su': {
      const short = parameters['short_factor']
      if (!Array.isArray(short) || short.length !== dims / 2 || !short.every((x) => typeof x === 'number' && x > 0))
        return c.refuse(field, `${dims / 2} numbers above 0 as "short_factor"`)
      const positions = original()
      const factor = parameters['factor'] === null || parameters['factor'] === undefined ? options.maxPositions / positions : number('factor')
      const attentionFactor = number('attention_factor', factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(positions)))
      return { rope: { frequencies: plain.map((f, i) => f / (short as number[])[i]!), attentionFactor }, limit: { positions, scheme: 'longrope' } }
    }
    default:
      return c.refuse(field, 'a rope_type of default, linear, llama3, yarn, dynamic or longrope')
  }
}

/** Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth step between. */
function llama3(plain: number[], { factor, low, high, original }: { factor: number; low: number; high: number; original: number }): number[] {
  return plain.map((f) => {
    const wavelength = (2 * Math.PI) / f
    if (wavelength < original / high) return f
    if (wavelength > original / low) return f / factor
    const smooth = (original / wavelength - low) / (high - low)
    return ((1 - smooth) * f) / factor + smooth * f
  })
}

interface YarnRange {
  theta: number
  dims: number
  original: number
  fast: number
  slow: number
  truncate: boolean
}

/** YaRN (Peng et al. 2023): between the dimensions that turn `fast` and `slow` times over the original length, a ramp from kept to divided. */
function yarn(plain: number[], factor: number, { theta, dims, original, fast, slow, truncate }: YarnRange): number[] {
  const dimension = (turns: number): number => (dims * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
  const [first, last] = truncate ? [Math.floor(dimension(fast)), Math.ceil(dimension(slow))] : [dimension(fast), dimension(slow)]
  const low = Math.max(first, 0)
  const high = Math.min(last, dims - 1)
  return plain.map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (low === high ? 0.001 : high - low)))
    return (f / factor) * ramp + f * (1 - ramp)
  })
}

function yarnAttention(parameters: Parameters, factor: number, number: (name: string, fallback?: number) => number): number {
  const scale = (m = 1): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1)
  const { mscale, mscale_all_dim: all } = parameters
  return number('attention_factor', mscale && all ? scale(number('mscale')) / scale(number('mscale_all_dim')) : scale())
}

/** The shorter of the model's positions and what its rotary scheme holds for. */
export function limitOf(maxPositions: number, settings: readonly RopeSetting[]): { maxPositions: number; positionLimit?: string } {
  const limits = settings.flatMap(({ limit }) => (limit && limit.positions <= maxPositions ? [limit] : []))
  if (limits.length === 0) return { maxPositions }
  const { positions, scheme } = limits.reduce((a, b) => (a.positions <= b.positions ? a : b))
  return { maxPositions: positions, positionLimit: `rotary scaling "${scheme}" changes its frequencies past ${positions} positions` }
}
