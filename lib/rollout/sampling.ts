// How tokens are drawn, and the one call that draws them.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import type { Decoder } from '../model/decoder.js'
import { projection } from '../model/heads.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'

/** Recorded log-probs are the model's own at this temperature, whatever cuts and penalties bend the draw. */
export interface SamplingOptions {
  /** 0 = greedy. */
  temperature: number
  /** Keep the k likeliest tokens; 0 = off. */
  topK: number
  /** Keep the likeliest tokens up to this probability; 1 = off. */
  topP: number
  /** Keep tokens at least this likely relative to the likeliest; 0 = off (the default). */
  minP?: number
  /** Divides the logits above 0, and multiplies the others, of tokens in prompt and answer (Keskar et al. 2019); 1 = off. */
  repetitionPenalty?: number
  /** Taken from the logits of tokens that the answer has; 0 = off. */
  presencePenalty?: number
  /** Added to the logits of single tokens. -Infinity: never drawn. */
  logitBias?: ReadonlyMap<number, number>
}

/** Refuses numbers that make no sense. */
export function checkSampling({ temperature, topK, topP, minP = 0, repetitionPenalty = 1, presencePenalty = 0, logitBias }: SamplingOptions, vocab: number): void {
  if (!(temperature >= 0 && Number.isFinite(temperature))) fail('sampling', 'a temperature of 0 or more', String(temperature), '1')
  if (!Number.isInteger(topK) || topK < 0) fail('sampling', 'a top-k of 0 or more', String(topK), '0 to keep all tokens')
  if (!(topP > 0 && topP <= 1)) fail('sampling', 'a top-p above 0 and at most 1', String(topP), '1 to keep all tokens')
  if (!(minP >= 0 && minP <= 1)) fail('sampling', 'a min-p from 0 to 1', String(minP), '0 to keep all tokens')
  if (!(repetitionPenalty > 0 && Number.isFinite(repetitionPenalty))) fail('sampling', 'a repetition penalty above 0', String(repetitionPenalty), '1, which is none')
  if (!Number.isFinite(presencePenalty)) fail('sampling', 'a presence penalty', String(presencePenalty), '0, which is none')
  for (const [id, bias] of logitBias ?? []) {
    if (!Number.isInteger(id) || id < 0 || id >= vocab) fail('sampling', `a logit bias for token ids from 0 to ${vocab - 1}`, String(id), "ids of the model's own tokenizer")
    if (Number.isNaN(bias) || bias === Infinity) fail('sampling', `a number, or -Infinity, as the logit bias of token ${id}`, String(bias), '-100 to ban a token')
  }
}

/** The tokens of one row whose logits the draw changes, kept up to date token by token. */
export class Edits {
  readonly #numbers = new Map<number, { bias: number; repetition: number; presence: number }>()

  private constructor(private readonly options: Required<Pick<SamplingOptions, 'repetitionPenalty' | 'presencePenalty'>>) {}

  /** Null where nothing is changed, ever. */
  static of(prompt: Int32Array, { repetitionPenalty = 1, presencePenalty = 0, logitBias }: SamplingOptions): Edits | null {
    if (repetitionPenalty === 1 && presencePenalty === 0 && !logitBias?.size) return null
    const edits = new Edits({ repetitionPenalty, presencePenalty })
    for (const [id, bias] of logitBias ?? []) edits.#at(id).bias = bias
    if (repetitionPenalty !== 1) for (const id of prompt) edits.#at(id).repetition = repetitionPenalty
    return edits
  }

  /** A token that was drawn. */
  drew(id: number): void {
    const { repetitionPenalty: repetition, presencePenalty: presence } = this.options
    if (repetition !== 1 || presence !== 0) Object.assign(this.#at(id), { repetition, presence })
  }

  #at(id: number): { bias: number; repetition: number; presence: number } {
    const known = this.#numbers.get(id) ?? { bias: 0, repetition: 1, presence: 0 }
    this.#numbers.set(id, known)
    return known
  }

  get size(): number {
    return this.#numbers.size
  }

  *[Symbol.iterator](): Generator<[id: number, numbers: readonly [number, number, number]]> {
    for (const [id, { bias, repetition, presence }] of this.#numbers) yield [id, [bias, repetition, presence]]
  }
}

/** One row to draw for. */
export interface Draw {
  seed: bigint
  /** Index of the drawn token in its sequence: with the seed it decides the random number. */
  position: number
  edits: Edits | null
}

/** Draws one token per row of hidden [B, E]; log-probs are before any edit or cut. The caller disposes the results. */
export function sampleTokens(model: Decoder, hidden: Tensor, draws: readonly Draw[], options: SamplingOptions): { tokens: Tensor; logprobs: Tensor } {
  using scope = new Scope()
  const n = draws.length
  const { weight, bias, softcap } = projection(model, scope)
  const logits = scope.own(native().matmul(model.device, { a: hidden, b: weight, bias, dtype: 'fp32' }))
  const seeds = new Int32Array(2 * n)
  for (const [i, { seed }] of draws.entries()) {
    seeds[2 * i] = Number(BigInt.asIntN(32, seed))
    seeds[2 * i + 1] = Number(BigInt.asIntN(32, seed >> 32n))
  }
  return native().sample(model.device, {
    logits,
    softcap,
    invTemperature: new Float32Array(n).fill(options.temperature === 0 ? 0 : 1 / options.temperature),
    topK: new Int32Array(n).fill(options.topK),
    topP: new Float32Array(n).fill(options.topP),
    minP: options.minP ? new Float32Array(n).fill(options.minP) : null,
    ...editArrays(draws),
    seeds,
    positions: Int32Array.from(draws, (d) => d.position),
  })
}

/** The edits of all rows side by side; nothing where no row has any. */
function editArrays(draws: readonly Draw[]): { editStarts: Int32Array; editIds: Int32Array; edits: Float32Array } | object {
  const starts = new Int32Array(draws.length + 1)
  for (const [i, { edits }] of draws.entries()) starts[i + 1] = starts[i]! + (edits?.size ?? 0)
  const total = starts[draws.length]!
  if (total === 0) return {}
  const editIds = new Int32Array(total)
  const edits = new Float32Array(3 * total)
  let at = 0
  for (const draw of draws)
    for (const [id, numbers] of draw.edits ?? []) {
      editIds[at] = id
      edits.set(numbers, 3 * at++)
    }
  return { editStarts: starts, editIds, edits }
}
