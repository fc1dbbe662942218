// A model from pytorch_model.bin is the one from safetensors, also where its tensors are stored transposed.
import { copyFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { openWeights } from '../../../lib/checkpoint/storedTensors.js'
import { throughStrides } from '../../../lib/checkpoint/strides.js'
import { weightSources } from '../../../lib/checkpoint/weights.js'
import { createDevice } from '../../../lib/tensor/device.js'
import { temporaryFolder } from '../data/support.js'
import type { LegacyTensor } from './legacyFile.js'
import { legacyFile } from './legacyFile.js'

async function storedBytes(folder: string): Promise<Map<string, Uint8Array>> {
  using device = createDevice({ threads: 1 })
  using model = await LoadedModel.load(device, folder, { dtype: 'fp32' })
  const found = new Map<string, Uint8Array>()
  for (const { name, data } of weightSources(model.decoder, model.family)) {
    const bytes = await (data as () => Promise<Uint8Array>)()
    found.set(name, Uint8Array.from(bytes))
  }
  return found
}

/** The same tensor as the transpose of what the storage holds. */
function transposed(name: string, shape: readonly number[], bytes: Uint8Array): LegacyTensor {
  const [rows, columns] = shape as [number, number]
  const from = new Float32Array(bytes.buffer)
  const storage = Float32Array.from(from, (_, at) => from[(at % rows) * columns + Math.floor(at / rows)]!)
  return { name, shape, strides: [1, rows], storage: new Uint8Array(storage.buffer) }
}

// OPT stores rows, GPT-2 transposed ones in thirds, BLOOM rows in turns.
for (const name of ['opt-tiny', 'gpt2', 'bloom']) {
  test(`loads as from safetensors: ${name}`, async (t) => {
    const source = path.join('test', 'fixtures', 'models', name)
    const weights = await openWeights(source)
    const tensors: LegacyTensor[] = []
    for (const [key, { dtype, shape }] of weights.entries) {
      t.is(dtype, 'F32')
      const bytes = await weights.read(key)
      tensors.push(shape.length === 2 ? transposed(key, shape, bytes) : { name: key, shape, strides: [1], storage: bytes })
    }
    const folder = await temporaryFolder(t)
    await copyFile(path.join(source, 'config.json'), path.join(folder, 'config.json'))
    await writeFile(path.join(folder, 'pytorch_model.bin'), legacyFile(tensors))
    const strided = [...(await openWeights(folder)).entries.values()].filter(({ strides }) => strides !== undefined)
    t.is(strided.length, tensors.filter(({ shape }) => shape.length === 2).length)
    t.deepEqual(await storedBytes(folder), await storedBytes(source))
  })
}

test('a place through strides is where the row-major element went', (t) => {
  const shape = [6, 8]
  const strides = [3, 40]
  const places = [
    { lies: { offset: 0, block: 6, blockStride: 0, rowStride: 8, columnStride: 1 }, rows: 6, columns: 8 },
    { lies: { offset: 3, block: 4, blockStride: 0, rowStride: 1, columnStride: 8 }, rows: 4, columns: 6 },
    { lies: { offset: 8, block: 1, blockStride: 24, rowStride: 8, columnStride: 1 }, rows: 2, columns: 8 },
  ]
  for (const { lies, rows, columns } of places) {
    const found = throughStrides(lies, rows, columns, shape, strides)!
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const at = (l: typeof lies): number =>
          l.offset + Math.floor(r / l.block) * l.blockStride + (r % l.block) * l.rowStride + c * l.columnStride
        t.is(at(found), Math.floor(at(lies) / 8) * 3 + (at(lies) % 8) * 40)
      }
    }
  }
  const over = { offset: 7, block: 6, blockStride: 0, rowStride: 1, columnStride: 8 }
  t.is(throughStrides(over, 2, 5, shape, strides), null, 'a step over the end of a row has no stride')
  t.deepEqual(throughStrides({ offset: 2, block: 4, blockStride: 0, rowStride: 1, columnStride: 1 }, 4, 1, [6], [5]), {
    offset: 10,
    block: 4,
    blockStride: 0,
    rowStride: 5,
    columnStride: 5,
  })
})
