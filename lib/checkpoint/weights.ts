// Weights between a decoder's flat units and the stock Hugging Face names: the names are a view onto the units.
import { fail } from '../base/errors.js'
import { f32ToBf16, f32ToF16 } from '../base/halves.js'
import { native } from '../binding/native.js'
import type { MappedFile } from '../binding/native.js'
import type { Decoder } from '../model/decoder.js'
import type { Family, Place } from '../model/families/family.js'
import { placeOf } from '../model/families/registry.js'
import { bytesOf, numel } from '../tensor/device.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import { deepspeedChatNames } from './deepspeedChatNames.js'
import type { TensorSource } from './safetensorsWriter.js'
import { isFloatDtype, storedAs } from './storedDtype.js'
import type { StoredTensor, StoredWeights } from './storedTensors.js'
import { throughStrides } from './strides.js'

/** Writes fp32 values into a tensor of floats. */
export function writeFloats(t: Tensor, values: Float32Array): void {
  t.write(t.dtype === 'fp32' ? values : t.dtype === 'bf16' ? f32ToBf16(values) : f32ToF16(values))
}

/** Names under which a weight may stand in a file: files of a model without its head leave out the family's prefix. */
export function spellings(name: string, { prefix }: Family, renamed: ReadonlyMap<string, string> | null): string[] {
  if (renamed !== null) return renamed.has(name) ? [renamed.get(name)!] : []
  return name.startsWith(prefix) ? [name, name.slice(prefix.length)] : [name]
}

/** Frequencies and masks that older files carry, though config.json decides them. */
export const isBuffer = (name: string): boolean => /(rotary_emb\.inv_freq|\.attn\.(bias|masked_bias)|\.attention\.(bias|masked_bias)|\.masked_bias|causal_mask)$/.test(name)

/** The output projection of a language model. */
export const headName = /^(lm_head|embed_out)\.(weight|bias)$/

/** Weights that files carry and no model needs: buffers, and a head that is tied or replaced by a scalar one. */
function ignorable(name: string, decoder: Decoder): boolean {
  if (isBuffer(name)) return true
  const head = headName.exec(name)
  return head !== null && (decoder.headKind === 'scalar' || (decoder.spec.tiedHead && head[2] === 'weight'))
}

/** One of our parameters and where it is stored. */
interface Parameter {
  unit: Decoder['embed']
  slot: string
  shape: readonly number[]
  place: Place
}

function parametersOf(decoder: Decoder, family: Family): Parameter[] {
  return decoder.parameterNames().map(({ name, unit, slot }) => {
    const { shape } = unit.slot(slot)
    return { unit, slot, shape, place: placeOf(family, decoder.spec, name, shape) }
  })
}

export interface LoadReport {
  /** The file has no value weight (a language model used to start a reward model): it keeps its fresh values. */
  freshValueHead: boolean
}

/**
 * Fills the units from a folder's weights, straight from the mapped files. Missing, surplus and misshapen weights are
 * listed by name; non-finite weights are refused. A scalar model may start from a language model: only its value head is
 * fresh.
 */
export async function loadWeights(decoder: Decoder, family: Family, { folder, entries }: StoredWeights): Promise<LoadReport> {
  const renamed = deepspeedChatNames(entries, family.prefix)
  const used = new Set<string>()
  const missing = new Set<string>()
  const misshapen = new Set<string>()
  let freshValueHead = false
  const found: { parameter: Parameter; entry: StoredTensor }[] = []
  for (const parameter of parametersOf(decoder, family)) {
    const { name, shape } = parameter.place
    const entry = spellings(name, family, renamed).map((s) => entries.get(s)).find((e) => e !== undefined)
    if (!entry && parameter.slot === 'value.weight') freshValueHead = true
    else if (!entry) missing.add(name)
    else if (entry.shape.join() !== shape.join()) misshapen.add(`${entry.name} [${entry.shape.join(', ')}] instead of [${shape.join(', ')}]`)
    else found.push({ parameter, entry })
    if (entry) used.add(entry.name)
  }
  const surplus = [...entries.keys()].filter((n) => !used.has(n) && !ignorable(n, decoder) && n !== 'score.weight')
  const complaints = [
    missing.size ? `missing ${list([...missing])}` : '',
    misshapen.size ? `misshapen ${list([...misshapen])}` : '',
    surplus.length ? `surplus ${list(surplus)}` : '',
  ].filter(Boolean)
  if (complaints.length) fail('weights', `in ${folder} the weights its config.json describes`, complaints.join('; '), 'the checkpoint that belongs to this config.json')
  await fill(decoder, folder, found)
  return { freshValueHead }
}

/** Enqueues one load for each parameter, waits for all, and names the first number that is not finite. */
async function fill(decoder: Decoder, folder: string, found: readonly { parameter: Parameter; entry: StoredTensor }[]): Promise<void> {
  const { device } = decoder
  using scope = new Scope()
  const files = new Map<string, MappedFile>()
  const bad = scope.own(device.alloc({ dtype: 'int32', shape: [found.length], category: 'workspace' }))
  bad.write(new Int32Array(found.length).fill(-1))
  for (const [i, { parameter, entry }] of found.entries()) {
    if (!isFloatDtype(entry.dtype)) fail('weights', `fp32, bf16 or fp16 weights in ${folder}`, `${entry.dtype} for ${entry.name}`, 'a checkpoint in one of these types')
    const { unit, slot, shape, place } = parameter
    const { file, begin, end, dtype, strides } = entry
    if (!files.has(file)) files.set(file, scope.own(new (native().MappedFile)(file)))
    const lies = strides ? throughStrides(place.lies, shape[0]!, shape[1] ?? 1, entry.shape, strides) : place.lies
    if (!lies) fail('weights', `contiguous weights in ${folder}`, `a view of them, with strides, as ${entry.name}`, 'to save the checkpoint from contiguous tensors')
    const out = scope.own(unit.params.view(unit.slot(slot).offset, [shape[0]!, shape[1] ?? 1]))
    native().unpack(device, { file: files.get(file)!, begin, end, stored: dtype, ...lies, out, bad: scope.own(bad.view(i, [1])) })
  }
  const places = (await bad.read()) as Int32Array
  const wrong = places.findIndex((p) => p >= 0)
  if (wrong < 0) return
  const { parameter, entry } = found[wrong]!
  if (parameter.unit.dtype === 'fp16' && entry.dtype !== 'F16')
    fail('weights', `numbers that fp16 can hold (up to 65504) in ${folder}`, `another in ${entry.name} (element ${places[wrong]} of ${parameter.unit.name}.${parameter.slot})`, '--dtype bf16')
  fail('weights', `finite weights in ${folder}`, `a number that is not, in ${entry.name} (element ${places[wrong]} of ${parameter.unit.name}.${parameter.slot})`, 'an intact checkpoint')
}

function list(names: string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
}

/** Every weight under its stock name, read from the device when it is written. */
export function weightSources(decoder: Decoder, family: Family): TensorSource[] {
  const stock = new Map<string, Parameter[]>()
  for (const parameter of parametersOf(decoder, family)) stock.set(parameter.place.name, [...(stock.get(parameter.place.name) ?? []), parameter])
  return Array.from(stock, ([name, parts]) => ({
    name,
    dtype: storedAs[decoder.dtype],
    shape: parts[0]!.place.shape,
    data: () => stockBytes(parts),
  }))
}

/** The bytes of one stock tensor, from the parameters that lie in it. */
async function stockBytes(parts: readonly Parameter[]): Promise<Uint8Array> {
  const { unit, place } = parts[0]!
  const size = numel(place.shape)
  if (parts.length === 1 && isWhole(parts[0]!)) return asBytes(await readParameter(parts[0]!))
  const out = bytesOf(unit.dtype) === 4 ? new Uint32Array(size) : new Uint16Array(size)
  for (const part of parts) {
    const raw = await readParameter(part)
    const values = bytesOf(unit.dtype) === 4 ? new Uint32Array(raw.buffer, raw.byteOffset, raw.length) : (raw as Uint16Array)
    const { offset, block, blockStride, rowStride, columnStride } = part.place.lies
    const columns = part.shape[1] ?? 1
    for (let r = 0, i = 0; r < part.shape[0]!; r++) {
      let at = offset + Math.floor(r / block) * blockStride + (r % block) * rowStride
      for (let c = 0; c < columns; c++, at += columnStride) out[at] = values[i++]!
    }
  }
  return asBytes(out)
}

function isWhole({ shape, place: { lies, shape: stock } }: Parameter): boolean {
  return numel(stock) === numel(shape) && lies.block === shape[0] && lies.rowStride === (shape[1] ?? 1) && lies.columnStride === 1
}

async function readParameter({ unit, slot }: Parameter): Promise<Float32Array | Int32Array | Uint16Array> {
  const view = unit.view(slot)
  try {
    return await view.read()
  } finally {
    view.dispose()
  }
}

const asBytes = (values: ArrayBufferView): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
