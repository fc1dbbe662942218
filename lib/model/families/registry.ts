// The families this version knows.
import { fail } from '../../base/errors.js'
import { ConfigReader } from '../config.js'
import type { ConfigJson } from '../config.js'
import type { DecoderSpec } from '../spec.js'
import type { Family } from './family.js'
import { llama } from './llama.js'
import { opt } from './opt.js'

export const families: readonly Family[] = [opt, llama]

/** The family and numbers of a config.json. Errors: an unknown model_type, a value that is not supported. */
export function readSpec(config: ConfigJson, where: string): { family: Family; spec: DecoderSpec } {
  const family = families.find((f) => f.type === config['model_type'])
  if (!family)
    fail('config', `model_type ${families.map((f) => `"${f.type}"`).join(' or ')} in ${where}`, JSON.stringify(config['model_type']), 'a model of one of these families')
  return { family, spec: family.spec(new ConfigReader(config, where)) }
}

/** The Hugging Face name of one of our parameters, e.g. "layers.3.attn.q.weight". */
export function weightName(family: Family, name: string): string {
  const layer = /^layers\.(\d+)\./.exec(name)?.[1] ?? ''
  const key = name.replace(/^layers\.\d+\./, 'layers.{i}.')
  const exact = family.weights[key]
  if (exact) return exact.replace('{i}', layer)
  const dot = key.lastIndexOf('.')
  const stem = family.weights[key.slice(0, dot)]
  if (!stem) fail('weights', `a name for "${name}" in family ${family.type}`, 'none', 'adding it to the weight table of the family')
  return stem.replace('{i}', layer) + key.slice(dot)
}
