// The families this version knows.
import { fail } from '../../base/errors.js'
import { ConfigReader } from '../config.js'
import type { ConfigJson } from '../config.js'
import type { DecoderSpec } from '../spec.js'
import { bloom } from './bloom.js'
import type { Family, Place } from './family.js'
import { whole } from './family.js'
import { gemma2, gemma3 } from './gemma.js'
import { gpt2 } from './gpt2.js'
import { codegen, gptj } from './gptj.js'
import { gptNeo } from './gptNeo.js'
import { llama, mistral } from './llama.js'
import { neox } from './neox.js'
import { opt } from './opt.js'
import { phi3 } from './phi3.js'
import { qwen2, qwen3 } from './qwen.js'

export const families: readonly Family[] = [opt, gpt2, gptNeo, gptj, codegen, neox, bloom, llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3]

/** By model_type. */
export const familyOf = (type: unknown): Family | undefined => families.find((f) => f.type === type)

/** The family and numbers of a config.json. Errors: an unknown model_type, a field or value that is not supported. */
export function readSpec(config: ConfigJson, where: string): { family: Family; spec: DecoderSpec } {
  const family = familyOf(config['model_type'])
  if (!family)
    fail('config', `a model_type of ${families.map((f) => f.type).join(', ')} in ${where}`, JSON.stringify(config['model_type']), 'a model of one of these families')
  const reader = new ConfigReader(config, where)
  const spec = family.spec(reader)
  reader.finish()
  return { family, spec }
}

/** Where one of our parameters, e.g. "layers.3.attn.q.weight", lies in the stock weights. */
export function placeOf(family: Family, spec: DecoderSpec, name: string, shape: readonly number[]): Place {
  const layer = /^layers\.(\d+)\./.exec(name)?.[1] ?? ''
  const key = name.replace(/^layers\.\d+\./, 'layers.{i}.')
  const dot = key.lastIndexOf('.')
  const stem = family.weights[key.slice(0, dot)]
  const entry = family.weights[key] ?? (typeof stem === 'string' ? stem + key.slice(dot) : undefined)
  if (entry === undefined) fail('weights', `a name for "${name}" in family ${family.type}`, 'none', 'adding it to the weight table of the family')
  const place = (typeof entry === 'string' ? whole(entry) : entry)(shape, spec)
  return { ...place, name: place.name.replace('{i}', layer) }
}
