/** Writing the weights of a model folder: one safetensors file, or several behind model.safetensors.index.json. */
import path from 'node:path'
import { writeJson } from '../base/files.js'
import type { TensorSource } from './safetensorsWriter.js'
import { tensorBytes, writeSafetensors } from './safetensorsWriter.js'
import { safetensorsLayout } from './storedTensors.js'

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
    await writeSafetensors(path.join(folder, safetensorsLayout.single), tensors)
    return [safetensorsLayout.single]
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
  await writeJson(path.join(folder, safetensorsLayout.index), {
    metadata: { total_size: totalSize },
    weight_map: Object.fromEntries(weightMap),
  })
  return [...names, safetensorsLayout.index]
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
