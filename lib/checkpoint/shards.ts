/** The weights of a model folder: one safetensors file, or several behind model.safetensors.index.json. */
import path from 'node:path'
import { fail } from '../base/errors.js'
import { pathExists, readJson, writeJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import type { TensorEntry } from './safetensors.js'
import { SafetensorsFile } from './safetensors.js'
import type { TensorSource } from './safetensorsWriter.js'
import { tensorBytes, writeSafetensors } from './safetensorsWriter.js'

export const singleFileName = 'model.safetensors'
export const indexFileName = 'model.safetensors.index.json'

/** Every tensor of a model folder by name, wherever it lies. */
export class SafetensorsFolder {
  private constructor(
    readonly folder: string,
    readonly entries: ReadonlyMap<string, TensorEntry>,
    private readonly files: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  /** Opens the index, or the single file where there is none; all headers are checked. */
  static async open(folder: string): Promise<SafetensorsFolder> {
    const index = path.join(folder, indexFileName)
    if (await pathExists(index)) return SafetensorsFolder.#sharded(folder, await readWeightMap(index), index)
    const single = path.join(folder, singleFileName)
    if (!(await pathExists(single))) {
      fail(
        'safetensors',
        `${singleFileName} or ${indexFileName} in ${folder}`,
        'neither',
        'a model folder in the Hugging Face layout',
      )
    }
    const file = await SafetensorsFile.open(single)
    return new SafetensorsFolder(folder, file.entries, new Map([...file.entries.keys()].map((name) => [name, file])))
  }

  static async #sharded(folder: string, weightMap: ReadonlyMap<string, string>, index: string): Promise<SafetensorsFolder> {
    const shards = new Map<string, SafetensorsFile>()
    const entries = new Map<string, TensorEntry>()
    const files = new Map<string, SafetensorsFile>()
    for (const [name, shardName] of weightMap) {
      let shard = shards.get(shardName)
      if (shard === undefined) {
        shard = await SafetensorsFile.open(path.join(folder, shardName))
        shards.set(shardName, shard)
      }
      const entry = shard.entries.get(name)
      if (entry === undefined) {
        fail(
          'safetensors',
          `the tensor "${name}" in ${shard.file}, as ${index} says`,
          'a file without it',
          'to copy or download the folder again',
        )
      }
      entries.set(name, entry)
      files.set(name, shard)
    }
    return new SafetensorsFolder(folder, entries, files)
  }

  /** The file that holds a tensor. */
  fileOf(name: string): SafetensorsFile {
    const file = this.files.get(name)
    if (file !== undefined) return file
    fail(
      'safetensors',
      `the tensor "${name}" in ${this.folder}`,
      `${this.entries.size} tensors without it`,
      'the checkpoint of the model that config.json describes',
    )
  }

  /** One tensor's bytes, in an array of its own. */
  async read(name: string): Promise<Uint8Array> {
    return this.fileOf(name).read(name)
  }
}

async function readWeightMap(index: string): Promise<Map<string, string>> {
  const json = await readJson(index)
  const cure = 'to copy or download the file again'
  const weightMap = isJsonObject(json) ? json['weight_map'] : undefined
  if (!isJsonObject(weightMap)) fail('safetensors', `an object "weight_map" in ${index}`, kindOf(weightMap), cure)
  const files = new Map<string, string>()
  for (const [name, file] of Object.entries(weightMap)) {
    // A shard lies beside its index: a path out of the folder is never followed.
    if (typeof file !== 'string' || file === '' || path.basename(file) !== file || file === '..') {
      fail('safetensors', `a file name beside ${index} for tensor "${name}"`, JSON.stringify(file), cure)
    }
    files.set(name, file)
  }
  return files
}

/**
 * Writes weights into a folder that exists: one file, or shards of at most maxShardBytes of data (a larger tensor has
 * a shard of its own) with their index. Returns the names of the files.
 */
export async function writeSafetensorsFolder(
  folder: string,
  tensors: readonly TensorSource[],
  options: { readonly maxShardBytes?: number } = {},
): Promise<string[]> {
  const shards = cutShards(tensors, options.maxShardBytes ?? Infinity)
  if (shards.length <= 1) {
    await writeSafetensors(path.join(folder, singleFileName), tensors)
    return [singleFileName]
  }
  const weightMap: [string, string][] = []
  const names: string[] = []
  for (const [index, shard] of shards.entries()) {
    const name = `model-${fiveDigits(index + 1)}-of-${fiveDigits(shards.length)}.safetensors`
    await writeSafetensors(path.join(folder, name), shard)
    names.push(name)
    for (const tensor of shard) weightMap.push([tensor.name, name])
  }
  const totalSize = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  await writeJson(path.join(folder, indexFileName), {
    metadata: { total_size: totalSize },
    weight_map: Object.fromEntries(weightMap),
  })
  return [...names, indexFileName]
}

const fiveDigits = (value: number): string => String(value).padStart(5, '0')

function cutShards(tensors: readonly TensorSource[], maxShardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = []
  let room = 0
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor)
    if (shards.length === 0 || bytes > room) {
      shards.push([])
      room = maxShardBytes
    }
    shards.at(-1)!.push(tensor)
    room -= bytes
  }
  return shards
}
