// The readers of weights: safetensors, torch's two formats, and the index of either.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { openWeights } from '../../lib/checkpoint/storedTensors.js'
import { repairZip } from './repairZip.js'
import type { FuzzTarget } from './target.js'

const fixture = (...names: string[]): string => path.join('test', 'fixtures', 'bins', ...names)

/** One file of a fixture under the name that the reader looks for. */
async function seedOf(folder: string, file: string, as: string): Promise<Map<string, Uint8Array>> {
  return new Map([[as, await readFile(fixture(folder, file))]])
}

async function readAll(file: string): Promise<void> {
  const weights = await openWeights(path.dirname(file))
  for (const name of weights.entries.keys()) await weights.read(name)
}

const expected = 'model.safetensors.expected'
const bin = 'pytorch_model.bin'

const safetensors: FuzzTarget = {
  name: 'safetensors',
  text: true,
  seeds: () => Promise.all(['zip', 'views', 'tied', 'new-dtypes'].map((name) => seedOf(name, expected, 'model.safetensors'))),
  read: readAll,
  // The header's length again, so that an edit of the header is seen as one.
  repair: (bytes) => {
    const end = Buffer.from(bytes).lastIndexOf('}') + 1
    if (end <= 8) return bytes
    const repaired = Buffer.from(bytes)
    repaired.writeBigUInt64LE(BigInt(end - 8))
    return repaired
  },
}

const safetensorsIndex: FuzzTarget = {
  name: 'safetensors index',
  text: true,
  seeds: async () => {
    const shards = new Map([
      ...(await seedOf('tied', expected, 'model-00001-of-00002.safetensors')),
      ...(await seedOf('sharded', expected, 'model-00002-of-00002.safetensors')),
    ])
    const weightMap = { 'embed.weight': 1, scale: 1, 'layers.0.weight': 2, 'layers.3.weight': 2 }
    const named = Object.entries(weightMap).map(([name, shard]) => [name, [...shards.keys()][shard - 1]])
    const index = JSON.stringify({ metadata: { total_size: 336 }, weight_map: Object.fromEntries(named) as unknown }, null, 2)
    return [new Map([['model.safetensors.index.json', Buffer.from(index)], ...shards])]
  },
  read: readAll,
  // A shard may be what is at fault.
  place: (file) => path.dirname(file),
}

const torchZip: FuzzTarget = {
  name: 'torch zip',
  seeds: () => {
    const names = ['zip', 'module', 'protocol1', 'protocol5', 'views', 'tied', 'nested', 'new-dtypes', 'reward-opt', 'zip64']
    return Promise.all(names.map((name) => seedOf(name, bin, bin)))
  },
  read: readAll,
  repair: repairZip,
}

const torchLegacy: FuzzTarget = {
  name: 'torch legacy',
  seeds: () => Promise.all(['legacy', 'views-legacy'].map((name) => seedOf(name, bin, bin))),
  read: readAll,
}

const torchIndex: FuzzTarget = {
  name: 'torch index',
  text: true,
  seeds: async () => {
    const files = [`${bin}.index.json`, 'pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin']
    const read = await Promise.all(files.map((name) => seedOf('sharded', name, name)))
    return [new Map(read.flatMap((one) => [...one]))]
  },
  read: readAll,
  place: (file) => path.dirname(file),
}

export const checkpointTargets: readonly FuzzTarget[] = [safetensors, safetensorsIndex, torchZip, torchLegacy, torchIndex]
