// Weights between a decoder's flat units and the stock Hugging Face names: the names are a view onto the units.
import { fail } from '../base/errors.js'
import type { Decoder } from '../model/decoder.js'
import type { Family } from '../model/families/family.js'
import { weightName } from '../model/families/registry.js'
import { readFloats } from '../tensor/device.js'
import type { DType, Tensor } from '../tensor/device.js'
import type { TensorSource } from './safetensorsWriter.js'
import { f32ToBf16, fromFloat32, isFloatDtype, toFloat32 } from './storedDtype.js'
import type { StoredDtype } from './storedDtype.js'
import { openWeights } from './storedTensors.js'
import type { StoredTensor } from './storedTensors.js'

/** Writes fp32 values into a tensor of fp32 or bf16. */
export function writeFloats(t: Tensor, values: Float32Array): void {
  t.write(t.dtype === 'fp32' ? values : f32ToBf16(values))
}

/** Names under which a weight may stand in a file: with and without the leading "model.". */
function spellings(name: string): string[] {
  return name.startsWith('model.') ? [name, name.slice('model.'.length)] : [name]
}

/** Weights that files carry and no model needs (buffers, and the tied head beside its embedding). */
function ignorable(name: string, decoder: Decoder): boolean {
  return /rotary_emb\.inv_freq$|\.attn\.bias$|\.masked_bias$/.test(name) || (name === 'lm_head.weight' && (decoder.spec.tiedHead || decoder.headKind === 'scalar'))
}

export interface LoadReport {
  /** The file has no value weight (a language model used to start a reward model): it keeps its fresh values. */
  freshValueHead: boolean
}

/**
 * Fills the units from a folder's stored weights, one tensor at a time. Missing, surplus and misshapen weights are listed
 * by name; non-finite weights are refused. A scalar model may start from a language model: only its value head is fresh.
 */
export async function loadWeights(decoder: Decoder, family: Family, folder: string): Promise<LoadReport> {
  const file = await openWeights(folder)
  const used = new Set<string>()
  const missing: string[] = []
  const misshapen: string[] = []
  let freshValueHead = false
  const found: { slot: string; unit: Decoder['embed']; entry: StoredTensor }[] = []
  for (const { name, unit, slot } of decoder.parameterNames()) {
    const stock = weightName(family, name)
    const entry = spellings(stock).map((s) => file.entries.get(s)).find((e) => e !== undefined)
    const { shape } = unit.slot(slot)
    if (!entry && slot === 'value.weight') freshValueHead = true
    else if (!entry) missing.push(stock)
    else if (entry.shape.join() !== shape.join()) misshapen.push(`${entry.name} [${entry.shape.join(', ')}] instead of [${shape.join(', ')}]`)
    else found.push({ slot, unit, entry })
    if (entry) used.add(entry.name)
  }
  const surplus = [...file.entries.keys()].filter((n) => !used.has(n) && !ignorable(n, decoder))
  const complaints = [
    missing.length ? `missing ${list(missing)}` : '',
    misshapen.length ? `misshapen ${list(misshapen)}` : '',
    surplus.length && !surplus.every((n) => n === 'score.weight') ? `surplus ${list(surplus)}` : '',
  ].filter(Boolean)
  if (complaints.length) fail('weights', `in ${folder} the weights its config.json describes`, complaints.join('; '), 'the checkpoint that belongs to this config.json')
  for (const { slot, unit, entry } of found) {
    if (!isFloatDtype(entry.dtype)) fail('weights', `fp32, bf16 or fp16 weights in ${folder}`, `${entry.dtype} for ${entry.name}`, 'a checkpoint in one of these types')
    const values = toFloat32(await file.read(entry.name), entry.dtype)
    const bad = values.findIndex((x) => !Number.isFinite(x))
    if (bad >= 0) fail('weights', `finite weights in ${folder}`, `${values[bad]} at element ${bad} of ${entry.name}`, 'an intact checkpoint')
    const view = unit.view(slot)
    writeFloats(view, values)
    view.dispose()
  }
  return { freshValueHead }
}

function list(names: string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
}

const STORED: Partial<Record<DType, StoredDtype>> = { fp32: 'F32', bf16: 'BF16' }

/** Every weight under its stock name, read from the device when it is written. */
export function weightSources(decoder: Decoder, family: Family): TensorSource[] {
  return decoder.parameterNames().map(({ name, unit, slot }) => {
    const dtype = STORED[unit.dtype]!
    return {
      name: weightName(family, name),
      dtype,
      shape: unit.slot(slot).shape,
      data: async () => {
        const view = unit.view(slot)
        const values = await readFloats(view)
        view.dispose()
        return fromFloat32(values, dtype as 'F32' | 'BF16')
      },
    }
  })
}
