/**
 * The weights of a model folder in whichever format they were stored. Every tensor is described as a range of bytes of
 * a file, so whoever moves weights need not know the format.
 */
import path from 'node:path'
import { fail } from '../base/errors.js'
import { pathExists, readJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import { SafetensorsFile } from './safetensors.js'
import type { StoredDtype } from './storedDtype.js'
import { readTensor, shown } from './tensorFiles.js'
import { openTorchBin } from './torchBin.js'

/** One tensor, little-endian. */
export interface StoredTensor {
  readonly name: string
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  readonly file: string
  /** Bytes [begin, end) of the file, checked against its size. */
  readonly begin: number
  readonly end: number
  /** In elements, from the one at `begin`. Absent: row-major and contiguous. */
  readonly strides?: readonly number[]
}

/** One file of weights whose header is read and checked. */
export interface WeightFile {
  readonly file: string
  readonly entries: ReadonlyMap<string, StoredTensor>
}

/** Every tensor of a model folder by name, wherever it lies. */
export interface StoredWeights {
  readonly folder: string
  readonly entries: ReadonlyMap<string, StoredTensor>
  /** One tensor's bytes, row-major and contiguous, in an array of its own. */
  read(name: string): Promise<Uint8Array>
}

interface Layout {
  readonly single: string
  readonly index: string
  open(file: string): Promise<WeightFile>
}

export const safetensorsLayout: Layout = {
  single: 'model.safetensors',
  index: 'model.safetensors.index.json',
  open: (file) => SafetensorsFile.open(file),
}

const torchLayout: Layout = { single: 'pytorch_model.bin', index: 'pytorch_model.bin.index.json', open: openTorchBin }

/** Files of weights and their indices. */
export const weightFileName = /^(model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json)$/

/** In the order in which transformers looks (modeling_utils, _get_resolved_checkpoint_files). */
const layouts: readonly Layout[] = [safetensorsLayout, torchLayout]

/** Opens the first layout that is there; all headers are checked. Errors: none of the four files, or a broken one. */
export async function openWeights(folder: string): Promise<StoredWeights> {
  for (const layout of layouts) {
    const single = path.join(folder, layout.single)
    if (await pathExists(single)) return storedWeights(folder, (await layout.open(single)).entries)
    const index = path.join(folder, layout.index)
    if (await pathExists(index)) return storedWeights(folder, await openShards(folder, index, layout))
  }
  const names = layouts.flatMap(({ single, index }) => [single, index])
  const expected = `${names.slice(0, -1).join(', ')} or ${names.at(-1)} in ${folder}`
  fail('weights', expected, 'none of them', 'a model folder in the Hugging Face layout')
}

function storedWeights(folder: string, entries: ReadonlyMap<string, StoredTensor>): StoredWeights {
  return {
    folder,
    entries,
    read: async (name) => {
      const entry = entries.get(name)
      if (entry !== undefined) return readTensor(entry)
      const cure = 'the checkpoint of the model that config.json describes'
      fail('weights', `the tensor ${shown(name)} in ${folder}`, `${entries.size} tensors without it`, cure)
    },
  }
}

async function openShards(folder: string, index: string, layout: Layout): Promise<Map<string, StoredTensor>> {
  const shards = new Map<string, WeightFile>()
  const entries = new Map<string, StoredTensor>()
  for (const [name, shardName] of await readWeightMap(index)) {
    const shard = shards.get(shardName) ?? (await layout.open(path.join(folder, shardName)))
    shards.set(shardName, shard)
    const entry = shard.entries.get(name)
    if (entry === undefined) {
      const expected = `the tensor ${shown(name)} in ${shard.file}, as ${index} says`
      fail('weights', expected, 'a file without it', 'to copy or download the folder again')
    }
    entries.set(name, entry)
  }
  return entries
}

async function readWeightMap(index: string): Promise<Map<string, string>> {
  const json = await readJson(index)
  const cure = 'to copy or download the file again'
  const weightMap = isJsonObject(json) ? json['weight_map'] : undefined
  if (!isJsonObject(weightMap)) fail('weights', `an object "weight_map" in ${index}`, kindOf(weightMap), cure)
  const files = new Map<string, string>()
  for (const [name, file] of Object.entries(weightMap)) {
    // A shard lies beside its index: a path out of the folder is never followed.
    if (typeof file !== 'string' || ['', '.', '..'].includes(file) || path.basename(file) !== file || file.includes('\0')) {
      const received = typeof file === 'string' ? shown(file) : kindOf(file)
      fail('weights', `a file name beside ${index} for tensor ${shown(name)}`, received, cure)
    }
    files.set(name, file)
  }
  return files
}
