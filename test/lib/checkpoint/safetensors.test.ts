import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { tensorOf, writeSafetensors } from '../../../lib/checkpoint/safetensorsWriter.js'
import { writeSafetensorsFolder } from '../../../lib/checkpoint/shards.js'
import type { StoredDtype } from '../../../lib/checkpoint/storedDtype.js'
import { dtypeBytes } from '../../../lib/checkpoint/storedDtype.js'
import type { StoredWeights } from '../../../lib/checkpoint/storedTensors.js'
import { openWeights } from '../../../lib/checkpoint/storedTensors.js'
import { failsWith, temporaryFolder } from '../data/support.js'

/** A file from a header value (or its text) and data bytes, without the writer under test. */
function fileBytes(header: unknown, data: Uint8Array = new Uint8Array(0)): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, data])
}

test('what is written is read back, in every dtype', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'model.safetensors')
  const dtypes = Object.keys(dtypeBytes) as StoredDtype[]
  const tensors = dtypes.map((dtype, index) => {
    const shape = [index + 1, 3]
    const bytes = Uint8Array.from({ length: (index + 1) * 3 * dtypeBytes[dtype] }, (_, at) => (at * 7 + index) % 256)
    return { dtype, shape, bytes, source: tensorOf(`t.${dtype}`, dtype, shape, bytes) }
  })
  const empty = tensorOf('empty', 'F32', [0, 4], new Uint8Array(0))
  const scalar = tensorOf('scalar', 'F32', [], Float32Array.of(2.5))
  await writeSafetensors(file, [...tensors.map(({ source }) => source), empty, scalar])
  const read = await SafetensorsFile.open(file)
  t.deepEqual(read.metadata, { format: 'pt' })
  for (const { dtype, shape, bytes } of tensors) {
    t.like(read.entry(`t.${dtype}`), { dtype, shape })
    t.deepEqual(await read.read(`t.${dtype}`), bytes)
    t.is(read.entry(`t.${dtype}`).begin % dtypeBytes[dtype], 0, 'aligned to its element')
  }
  t.is((await read.read('empty')).length, 0)
  t.is(new Float32Array((await read.read('scalar')).buffer)[0], 2.5)
  const part = new Uint8Array(4)
  await read.readInto('t.F32', part, 8)
  t.deepEqual(part, tensors[dtypes.indexOf('F32')]!.bytes.slice(8, 12))
  t.deepEqual(await readdir(folder), ['model.safetensors'])
})

test('the layout is the published one', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'a.safetensors')
  await writeSafetensors(file, [tensorOf('a', 'F32', [2], Float32Array.of(1, 2))])
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE())
  t.is(length % 8, 0)
  const header = bytes.toString('utf8', 8, 8 + length)
  t.is(header.trimEnd(), '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}')
  t.deepEqual([...bytes.subarray(8 + length)], [0, 0, 128, 63, 0, 0, 0, 64])
})

test('tensors can come in pieces; a wrong number of bytes is named and leaves no file', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'pieces.safetensors')
  const inPieces = async function* (count: number): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < count; index++) yield Promise.resolve(Uint8Array.of(index, index))
  }
  await writeSafetensors(file, [{ name: 'w', dtype: 'U8', shape: [6], data: () => inPieces(3) }])
  t.deepEqual([...(await (await SafetensorsFile.open(file)).read('w'))], [0, 0, 1, 1, 2, 2])
  const wrong = path.join(folder, 'wrong.safetensors')
  await failsWith(
    t,
    () => writeSafetensors(wrong, [{ name: 'w', dtype: 'U8', shape: [6], data: () => inPieces(2) }]),
    '6 bytes',
    '"w"',
    'received 4',
  )
  await failsWith(t, () => writeSafetensors(wrong, [tensorOf('w', 'F32', [3], Float32Array.of(1))]), '12 bytes', 'received 4')
  const one = tensorOf('w', 'U8', [1], Uint8Array.of(1))
  await failsWith(t, () => writeSafetensors(wrong, [one, one]), '"w" again')
  t.deepEqual(await readdir(folder), ['pieces.safetensors'])
})

const tensor = (offsets: unknown, more: object = {}): object => ({ dtype: 'F32', shape: [2], data_offsets: offsets, ...more })
const data = new Uint8Array(8)
const brokenFiles: readonly (readonly [string, Uint8Array, ...string[]])[] = [
  ['empty', new Uint8Array(0), 'at least 8 bytes', 'received 0'],
  [
    'header longer than the file',
    Buffer.concat([Buffer.of(200, 0, 0, 0, 0, 0, 0, 0), data]),
    'a header of 200 bytes',
    'a file of 16 bytes',
  ],
  ['absurd header length', Buffer.alloc(16, 255), 'at most 100000000'],
  ['header not JSON', fileBytes('{"a": '), 'a header in JSON'],
  ['header a list', fileBytes([1]), 'JSON object', 'received an array'],
  ['header not UTF-8', Buffer.concat([Buffer.of(2, 0, 0, 0, 0, 0, 0, 0), Buffer.of(0xff, 0xff)]), 'UTF-8'],
  ['entry not an object', fileBytes({ a: 3 }), 'tensor "a"', 'received a number'],
  ['unknown dtype', fileBytes({ a: tensor([0, 8], { dtype: 'F12' }) }, data), 'tensor "a"', '"F12"', 'BF16'],
  ['no dtype', fileBytes({ a: { shape: [2], data_offsets: [0, 8] } }, data), 'received nothing'],
  ['negative shape', fileBytes({ a: tensor([0, 8], { shape: [-2] }) }, data), 'shape', '[-2]'],
  // Found by fuzzing: JSON.parse takes any depth, JSON.stringify does not.
  ['deep shape', fileBytes(`{"a":{"dtype":"F32","shape":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`), 'shape', 'received an array'],
  ['deep dtype', fileBytes(`{"a":{"dtype":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`), 'dtype', 'received an array'],
  ['long name', fileBytes({ ['n'.repeat(1000)]: 3 }), `"${'n'.repeat(80)}..."`],
  ['three offsets', fileBytes({ a: tensor([0, 4, 8]) }, data), 'two data_offsets', 'tensor "a"'],
  ['torn data', fileBytes({ a: tensor([0, 8]) }, data.subarray(0, 5)), 'within the 5 bytes', 'tensor "a"', '0 to 8'],
  ['backward offsets', fileBytes({ a: tensor([8, 0]) }, data), '8 to 0'],
  [
    'size and shape differ',
    fileBytes({ a: tensor([0, 8], { shape: [3] }) }, data),
    '12 bytes for tensor "a" (F32 [3])',
    'received 8',
  ],
  ['overlap', fileBytes({ a: tensor([0, 8]), b: tensor([4, 12]) }, new Uint8Array(12)), 'tensor "b"', 'an overlap'],
  ['gap', fileBytes({ a: tensor([4, 12]) }, new Uint8Array(12)), 'tensor "a"', 'a gap'],
  ['bytes left over', fileBytes({ a: tensor([0, 8]) }, new Uint8Array(9)), 'bytes in all'],
  ['metadata not strings', fileBytes({ __metadata__: { a: 1 } }), '"__metadata__" field "a"'],
]

for (const [name, bytes, ...texts] of brokenFiles) {
  test(`a broken file is refused: ${name}`, async (t) => {
    const file = path.join(await temporaryFolder(t), 'broken.safetensors')
    await writeFile(file, bytes)
    await failsWith(t, () => SafetensorsFile.open(file), '[safetensors]', 'broken.safetensors', ...texts)
  })
}

test('no bytes make the reader fail in any other way', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'fuzz.safetensors')
  const whole = fileBytes({ __metadata__: { format: 'pt' }, a: tensor([0, 8]), b: tensor([8, 16]) }, new Uint8Array(16))
  const mutated = fc
    .array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
    .chain((changes) => fc.nat(whole.length).map((cut) => ({ changes, cut })))
    .map(({ changes, cut }) => {
      const bytes = Buffer.from(whole)
      for (const [place, value] of changes) bytes[place] = value
      return cut % 3 === 0 ? bytes.subarray(0, cut) : bytes
    })
  const structured = fc.dictionary(
    fc.string({ maxLength: 3 }),
    fc.record({ dtype: fc.constantFrom('F32', 'U8', 'x'), shape: fc.jsonValue(), data_offsets: fc.jsonValue() }),
  )
  let refused = 0
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        mutated,
        structured.map((header) => fileBytes(header, data)),
        fc.uint8Array({ maxLength: 40 }),
      ),
      async (bytes) => {
        await writeFile(file, bytes)
        try {
          const read = await SafetensorsFile.open(file)
          for (const name of read.entries.keys()) await read.read(name)
        } catch (error) {
          refused++
          t.true(error instanceof ThreefoldError, String(error))
        }
      },
    ),
    { numRuns: 400 },
  )
  t.true(refused > 100)
})

test('a missing file, tensor or piece is named', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'a.safetensors')
  await failsWith(t, () => SafetensorsFile.open(file), 'a.safetensors', 'ENOENT')
  await writeSafetensors(file, [tensorOf('a', 'U8', [2], Uint8Array.of(1, 2))])
  const read = await SafetensorsFile.open(file)
  await failsWith(t, () => read.read('b'), 'the tensor "b"')
  await failsWith(t, () => read.readInto('a', new Uint8Array(2), 1), 'within the 2 bytes of "a"')
})

test('shards and their index', async (t) => {
  const folder = await temporaryFolder(t)
  const weights = Array.from({ length: 5 }, (_, index) =>
    tensorOf(`w${index}`, 'U8', [4], Uint8Array.of(index, index, index, index)),
  )
  const names = await writeSafetensorsFolder(folder, weights, { maxShardBytes: 8 })
  t.deepEqual(names, [
    'model-00001-of-00003.safetensors',
    'model-00002-of-00003.safetensors',
    'model-00003-of-00003.safetensors',
    'model.safetensors.index.json',
  ])
  const index = JSON.parse(await readFile(path.join(folder, names[3]!), 'utf8')) as {
    metadata: object
    weight_map: Record<string, string>
  }
  t.deepEqual(index.metadata, { total_size: 20 })
  t.is(index.weight_map['w4'], names[2])
  const read = await openWeights(folder)
  for (let w = 0; w < 5; w++) t.deepEqual([...(await read.read(`w${w}`))], [w, w, w, w])
  await failsWith(t, () => read.read('w9'), 'the tensor "w9"')

  const single = path.join(folder, 'single')
  await mkdir(single)
  t.deepEqual(await writeSafetensorsFolder(single, weights), ['model.safetensors'])
  t.is((await openWeights(single)).entries.size, 5)
})

test('a wrong index is refused', async (t) => {
  const folder = await temporaryFolder(t)
  const names = ['model.safetensors, model.safetensors.index.json, pytorch_model.bin or pytorch_model.bin.index.json', folder]
  await failsWith(t, () => openWeights(folder), 'none of them', ...names)
  await writeSafetensors(path.join(folder, 'one.safetensors'), [tensorOf('a', 'U8', [1], Uint8Array.of(1))])
  const withMap = async (weightMap: unknown): Promise<StoredWeights> => {
    await writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }))
    return openWeights(folder)
  }
  t.is((await withMap({ a: 'one.safetensors' })).entries.size, 1)
  await failsWith(t, () => withMap({ a: 'one.safetensors', b: 'one.safetensors' }), 'the tensor "b"', 'one.safetensors')
  await failsWith(t, () => withMap({ a: 'two.safetensors' }), 'two.safetensors', 'ENOENT')
  await failsWith(t, () => withMap({ a: '../one.safetensors' }), 'beside', '"../one.safetensors"')
  await failsWith(t, () => withMap({ a: 'one\0.safetensors' }), 'beside', '"one\\u0000.safetensors"')
  await failsWith(t, () => withMap({ a: 3 }), 'tensor "a"')
  await failsWith(t, () => withMap([1]), '"weight_map"', 'an array')
})
