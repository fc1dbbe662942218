// pytorch_model.bin against files that torch wrote and the same tensors as the safetensors library wrote them.
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { deepspeedChatNames } from '../../../lib/checkpoint/deepspeedChatNames.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { tensorOf, writeSafetensors } from '../../../lib/checkpoint/safetensorsWriter.js'
import { openWeights } from '../../../lib/checkpoint/storedTensors.js'
import { openTorchBin } from '../../../lib/checkpoint/torchBin.js'
import { failsWith, temporaryFolder } from '../data/support.js'
import { legacyFile } from './legacyFile.js'
import type { LegacyParts } from './legacyFile.js'

const fixture = (name: string): string => path.join('test', 'fixtures', 'bins', name)
const binOf = (name: string): string => path.join(fixture(name), 'pytorch_model.bin')

const readable = [
  'zip',
  'legacy',
  'module',
  'protocol1',
  'protocol5',
  'views',
  'views-legacy',
  'tied',
  'nested',
  'deepspeed-engine',
  'new-dtypes',
  'reward-opt',
  'reward-opt-misspelt',
  'reward-llama-misspelt',
  'sharded',
  'zip64',
]
for (const name of readable) {
  test(`every tensor is the one that torch saved: ${name}`, async (t) => {
    const expected = await SafetensorsFile.open(path.join(fixture(name), 'model.safetensors.expected'))
    const found = await openWeights(fixture(name))
    t.deepEqual([...found.entries.keys()].sort(), [...expected.entries.keys()].sort())
    for (const [key, entry] of expected.entries) {
      t.like(found.entries.get(key), { name: key, dtype: entry.dtype, shape: entry.shape })
      t.deepEqual(await found.read(key), await expected.read(key), key)
    }
  })
}

test('a contiguous tensor is a range of the file; a view carries strides', async (t) => {
  for (const name of ['views', 'views-legacy']) {
    const { entries, file } = await openTorchBin(binOf(name))
    const expected = await SafetensorsFile.open(path.join(fixture(name), 'model.safetensors.expected'))
    const bytes = new Uint8Array(await readFile(file))
    const whole = entries.get('base')!
    t.deepEqual(bytes.slice(whole.begin, whole.end), await expected.read('base'))
    t.is(whole.end - whole.begin, 4 * 6 * 4)
    t.false('strides' in whole)
    const row = entries.get('row')!
    t.deepEqual([row.begin - whole.begin, row.end - row.begin, row.strides], [2 * 6 * 4, 6 * 4, undefined])
    t.deepEqual(entries.get('transposed')!.strides, [1, 6])
    t.deepEqual(entries.get('cube')!.strides, [1, 12, 4])
    // One column of six elements apart ends behind its last element, not behind its last row.
    const column = entries.get('column')!
    t.deepEqual([column.begin - whole.begin, column.end - column.begin, column.strides], [3 * 4, (3 * 6 + 1) * 4, [6]])
    t.false('strides' in entries.get('one_column')!, 'the stride of a single column is never used')
  }
})

test('tied tensors are one range', async (t) => {
  const { entries } = await openTorchBin(binOf('tied'))
  t.deepEqual({ ...entries.get('embed.weight'), name: '' }, { ...entries.get('lm_head.weight'), name: '' })
  t.not(entries.get('scale')!.begin, entries.get('embed.weight')!.begin)
})

// What the function is called in the pickle: os.system is the system of the module that Python loaded.
for (const [name, called] of [
  ['calls-system', 'posix.system'],
  ['calls-system-legacy', 'posix.system'],
  ['calls-eval', 'builtins.eval'],
] as const) {
  test(`a pickle that calls something is refused and named: ${name}`, async (t) => {
    const texts = ['[torch]', binOf(name), `names ${called}, which could run code`, 'Try a checkpoint from a source you trust']
    await failsWith(t, () => openWeights(fixture(name)), ...texts)
  })
}

test('deflated archives and files without tensors are refused by name', async (t) => {
  await failsWith(t, () => openWeights(fixture('deflated')), binOf('deflated'), 'data.pkl', 'a deflated one', 'torch.save')
  await failsWith(t, () => openWeights(fixture('no-tensors')), binOf('no-tensors'), 'expected tensors', '"state_dict"', 'none')
})

/** The fixture's bytes with one edit, as a file of its own. */
async function edited(folder: string, name: string, edit: (bytes: Buffer) => Buffer): Promise<string> {
  const file = path.join(folder, 'edited.bin')
  await writeFile(file, edit(await readFile(binOf(name))))
  return file
}

/** Replaces every occurrence; both texts have one length, so nothing moves. */
const replaced = (from: string, to: string) => (bytes: Buffer) =>
  Buffer.from(bytes.toString('latin1').replaceAll(from, to), 'latin1')

const broken: readonly (readonly [string, string, (bytes: Buffer) => Buffer, ...string[]])[] = [
  ['a zip cut short', 'zip', (b) => b.subarray(0, b.length - 9), 'the end record of a zip archive', 'cut short'],
  ['a legacy file cut in its tensors', 'legacy', (b) => b.subarray(0, b.length - 1), 'storage "', 'received'],
  ['a legacy file cut in its pickle', 'legacy', (b) => b.subarray(0, 500), 'more bytes of the pickle', 'received'],
  ['an empty file', 'zip', () => Buffer.alloc(0), 'a file of torch.save', '0 bytes'],
  ['no file of torch', 'zip', () => Buffer.from('<html>404</html>'), 'a zip archive, or pickles', '3c68746d'],
  ['a pickle of something else', 'legacy', () => Buffer.from('8004' + '4b05' + '2e', 'hex'), 'the magic number'],
  ['big-endian', 'zip', replaced('little', 'bigbig'), 'little-endian', '"bigbig"'],
  ['two directory entries of one name', 'tied', replaced('data/1', 'data/0'), 'one zip entry named', 'data/0'],
  ['no data.pkl', 'zip', replaced('data.pkl', 'data.pk1'), 'one entry data.pkl', 'received 0'],
  ['a storage that is not there', 'tied', replaced('data/1', 'data/7'), 'the entry "pytorch_model/data/1"'],
  ['a storage type torch does not have', 'zip', replaced('HalfStorage', 'HalfStorags'), 'torch.HalfStorags'],
]
for (const [name, from, edit, ...texts] of broken) {
  test(`a broken file is refused: ${name}`, async (t) => {
    const folder = await temporaryFolder(t)
    const file = await edited(folder, from, edit)
    await failsWith(t, () => openTorchBin(file), '[torch]', file, ...texts)
  })
}

test('sizes that reach beyond the archive are refused before anything is read', async (t) => {
  const folder = await temporaryFolder(t)
  const directoryOf = (bytes: Buffer, name: string): number => bytes.lastIndexOf(name) - 46
  const withField = (offset: number, value: number) => (bytes: Buffer) => {
    bytes.writeUInt32LE(value, directoryOf(bytes, 'pytorch_model/data/0') + offset)
    return bytes
  }
  const size = 0x7fffffff
  const grown = await edited(folder, 'tied', (b) => withField(20, size)(withField(24, size)(b)))
  await failsWith(t, () => openTorchBin(grown), 'before the zip directory', `${size} bytes at byte`)
  const shrunk = await edited(folder, 'tied', (b) => withField(20, 8)(withField(24, 8)(b)))
  await failsWith(t, () => openTorchBin(shrunk), '60 bytes for storage "0"', 'received 8')
  const uneven = await edited(folder, 'tied', withField(20, 61))
  await failsWith(t, () => openTorchBin(uneven), 'one size for the stored zip entry', 'received 61 and 60')
  const moved = await edited(folder, 'tied', withField(42, size))
  await failsWith(t, () => openTorchBin(moved), 'before the zip directory', `byte ${size}`)
})

test('a legacy file says where its storages lie, and is held to it', async (t) => {
  const file = path.join(await temporaryFolder(t), 'legacy.bin')
  const open = async (parts: LegacyParts, cut = 0): ReturnType<typeof openTorchBin> => {
    const bytes = legacyFile(undefined, parts)
    await writeFile(file, bytes.subarray(0, bytes.length - cut))
    return openTorchBin(file)
  }
  const size = legacyFile().length
  t.like((await open({})).entries.get('w'), { dtype: 'F32', shape: [2], begin: size - 8, end: size })
  await failsWith(t, () => open({}, 1), file, '8 bytes for storage "0"', 'received 7')
  await failsWith(t, () => open({ elements: 3 }), '2 elements in storage "0"', 'received 3')
  await failsWith(t, () => open({ elements: -1 }), '2 elements in storage "0"', 'received -1')
  await failsWith(t, () => open({ keys: ']' }), 'the bytes of storage "0"', 'a list of keys without it')
  await failsWith(t, () => open({ keys: ']U\x017a' }), 'each storage once', '"7"')
  await failsWith(t, () => open({ keys: '](U\x010U\x010e' }), 'each storage once', '"0"')
  await failsWith(t, () => open({ keys: 'K\x01' }), 'a list of storage keys', 'a number')
  await failsWith(t, () => open({ system: '}U\x0dlittle_endian\x89s' }), 'little-endian', 'another order')
  await failsWith(t, () => open({ protocol: 'M\xe8\x03' }), 'protocol 1001', '"1000"')
})

test('a legacy pickle longer than the first look is read whole', async (t) => {
  const file = path.join(await temporaryFolder(t), 'long.bin')
  const length = Buffer.alloc(4)
  length.writeUInt32LE(3 << 20)
  // A long string beside little_endian, so that the tensors come after the first MiB.
  const note = `U\x01nX${length.toString('latin1')}${'n'.repeat(3 << 20)}s`
  await writeFile(file, legacyFile(undefined, { system: `}U\x0dlittle_endian\x88s${note}` }))
  const { entries } = await openTorchBin(file)
  t.is(entries.get('w')!.begin, legacyFile().length - 8 + note.length)
})

test('the folder is looked through in the order of transformers', async (t) => {
  const folder = await temporaryFolder(t)
  const marked = async (name: string, value: number): Promise<void> =>
    writeSafetensors(path.join(folder, name), [tensorOf('w', 'U8', [1], Uint8Array.of(value))])
  const kindFound = async (): Promise<string> => path.basename([...(await openWeights(folder)).entries.values()][0]!.file)
  const sharded = fixture('sharded')
  for (const name of ['00001', '00002']) {
    await copyFile(path.join(sharded, `pytorch_model-${name}-of-00002.bin`), path.join(folder, `pytorch_model-${name}-of-00002.bin`))
  }
  await copyFile(path.join(sharded, 'pytorch_model.bin.index.json'), path.join(folder, 'pytorch_model.bin.index.json'))
  t.is(await kindFound(), 'pytorch_model-00001-of-00002.bin')
  await copyFile(binOf('zip'), path.join(folder, 'pytorch_model.bin'))
  t.is(await kindFound(), 'pytorch_model.bin')
  await marked('model-1.safetensors', 1)
  await writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { w: 'model-1.safetensors' } }))
  t.is(await kindFound(), 'model-1.safetensors')
  await marked('model.safetensors', 2)
  t.is(await kindFound(), 'model.safetensors')
})

test('a wrong index of .bin shards names index, shard and tensor', async (t) => {
  const folder = await temporaryFolder(t)
  const index = path.join(folder, 'pytorch_model.bin.index.json')
  await copyFile(binOf('tied'), path.join(folder, 'one.bin'))
  await mkdir(path.join(folder, 'inner'))
  const withMap = async (weightMap: unknown): Promise<unknown> => {
    await writeFile(index, JSON.stringify({ weight_map: weightMap }))
    return openWeights(folder)
  }
  await failsWith(t, () => withMap({ scale: 'one.bin', b: 'one.bin' }), 'the tensor "b"', 'one.bin', index, 'a file without it')
  await failsWith(t, () => withMap({ scale: 'inner/one.bin' }), 'beside', '"inner/one.bin"')
  await failsWith(t, () => withMap({ scale: 'two.bin' }), 'two.bin', 'ENOENT')
  const only = (await withMap({ scale: 'one.bin' })) as Awaited<ReturnType<typeof openWeights>>
  t.deepEqual([...only.entries.keys()], ['scale'], 'the index says what counts')
  await failsWith(t, () => only.read('embed.weight'), 'the tensor "embed.weight"', folder, '1 tensors without it')
})

const rewardNames: readonly (readonly [string, Record<string, string>])[] = [
  [
    'reward-opt',
    {
      'score.weight': 'v_head.weight',
      'model.decoder.embed_tokens.weight': 'rwtransformer.decoder.embed_tokens.weight',
      'model.decoder.layers.0.fc1.weight': 'rwtransformer.decoder.layers.0.fc1.weight',
    },
  ],
  [
    'reward-opt-misspelt',
    {
      'score.weight': 'v_head.weight',
      'model.decoder.embed_tokens.weight': 'rwtranrsformer.decoder.embed_tokens.weight',
      'model.decoder.layers.0.fc1.weight': 'rwtranrsformer.decoder.layers.0.fc1.weight',
    },
  ],
  [
    'reward-llama-misspelt',
    {
      'score.weight': 'v_head.weight',
      'model.embed_tokens.weight': 'rwtranrsformer.embed_tokens.weight',
      'model.layers.0.mlp.up_proj.weight': 'rwtranrsformer.layers.0.mlp.up_proj.weight',
      'model.norm.weight': 'rwtranrsformer.norm.weight',
    },
  ],
]
for (const [name, expected] of rewardNames) {
  test(`the reward model of DeepSpeed-Chat is known by its names: ${name}`, async (t) => {
    const { entries } = await openWeights(fixture(name))
    t.deepEqual(deepspeedChatNames(entries), new Map(Object.entries(expected)))
  })
}

test('other names are no reward model of DeepSpeed-Chat', (t) => {
  const from = (...names: string[]): Map<string, string> | null => deepspeedChatNames(new Map(names.map((name) => [name, 0])))
  t.is(from('model.layers.0.fc1.weight', 'score.weight'), null)
  t.is(from('rwtransformer.layers.0.fc1.weight'), null, 'no value head')
  t.is(from('v_head.weight', 'layers.0.fc1.weight'), null, 'no backbone')
  t.is(from('v_head.weight', 'rwtransformer.a', 'rwtranrsformer.b'), null, 'two backbones')
  t.is(from('v_head.weight', 'rwtransformer.decoder.a', 'rwtransformer.model.decoder.a'), null, 'two tensors of one name')
  const gpt2 = new Map([['v_head.weight', 0], ['rwtranrsformer.h.0.ln_1.bias', 0], ['rwtranrsformer.transformer.wte.weight', 0]])
  t.deepEqual([...deepspeedChatNames(gpt2, 'transformer.')!], [
    ['score.weight', 'v_head.weight'],
    ['transformer.h.0.ln_1.bias', 'rwtranrsformer.h.0.ln_1.bias'],
    ['transformer.wte.weight', 'rwtranrsformer.transformer.wte.weight'],
  ])
  const around = from('v_head.weight', 'v_head.bias', 'rwtransformer.model.layers.0.a')
  t.deepEqual([...around!], [['score.weight', 'v_head.weight'], ['model.layers.0.a', 'rwtransformer.model.layers.0.a']])
})
