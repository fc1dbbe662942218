// The pickle machine, opcode by opcode, on pickles spelt by hand (CPython, Lib/pickletools.py).
import test from 'ava'
import { fail } from '../../../lib/base/errors.js'
import { PickleGlobal, PickleOrderedDict, PickleTuple, readPickle } from '../../../lib/checkpoint/pickle.js'
import type { PickleWorld } from '../../../lib/checkpoint/pickle.js'
import { NeedsMoreBytes, PickleSource } from '../../../lib/checkpoint/pickleSource.js'
import type { Refuse } from '../../../lib/checkpoint/tensorFiles.js'
import { TorchWorld } from '../../../lib/checkpoint/torchPickle.js'
import { failsWith } from '../data/support.js'

const refuse: Refuse = (expected, received, cure = 'another file') => fail('torch', `${expected} in a.bin`, received, cure)

const nothing: PickleWorld = { global: () => undefined, persistent: () => null }

/** Text as Latin-1 characters; the STOP is added. */
function read(pickle: string, world: PickleWorld = nothing): unknown {
  return readPickle(new PickleSource(Buffer.from(`${pickle}.`, 'latin1'), true, refuse), world)
}

// Each pickle as Python's own pickle.loads reads it.
const values: readonly (readonly [string, unknown])[] = [
  ['N', null],
  ['\x80\x02\x88', true],
  ['\x89', false],
  ['K\xff', 255],
  ['M\xff\xfe', 0xfeff],
  ['J\xff\xff\xff\xff', -1],
  ['\x8a\x00', 0],
  ['\x8a\x01\xff', -1],
  ['\x8a\x02\x00\x01', 256],
  ['\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01', 1n << 64n],
  ['\x8b\x02\x00\x00\x00\xff\x7f', 32767],
  ['G\x3f\xf8\x00\x00\x00\x00\x00\x00', 1.5],
  ['I-12\n', -12],
  ['I01\n', true],
  ['I00\n', false],
  ['L123456789012345678901L\n', 123456789012345678901n],
  ['F-2.5e-3\n', -0.0025],
  ['Finf\n', Infinity],
  ['U\x02ab', 'ab'],
  ['T\x02\x00\x00\x00ab', 'ab'],
  ['X\x02\x00\x00\x00\xc3\xa9', 'é'],
  ['\x8c\x01a', 'a'],
  ['\x8d\x01\x00\x00\x00\x00\x00\x00\x00a', 'a'],
  ['C\x02\x00\xff', Uint8Array.of(0, 255)],
  ['B\x01\x00\x00\x00\x07', Uint8Array.of(7)],
  ['\x8e\x01\x00\x00\x00\x00\x00\x00\x00\x07', Uint8Array.of(7)],
  ['\x96\x01\x00\x00\x00\x00\x00\x00\x00\x07', Uint8Array.of(7)],
  [']K\x01a(K\x02K\x03e', [1, 2, 3]],
  ['(K\x01K\x02l', [1, 2]],
  ['}U\x01aK\x01s(U\x01bK\x02U\x01cK\x03u', new Map([['a', 1], ['b', 2], ['c', 3]])],
  ['(U\x01aK\x01d', new Map([['a', 1]])],
  [')', new PickleTuple([])],
  ['K\x01\x85', new PickleTuple([1])],
  ['K\x01K\x02\x86', new PickleTuple([1, 2])],
  ['K\x01K\x02K\x03\x87', new PickleTuple([1, 2, 3])],
  ['((K\x01K\x02tt', new PickleTuple([new PickleTuple([1, 2])])],
  ['K\x01K\x020', 1],
  ['K\x01(K\x02K\x031', 1],
  [']2K\x07a0', [7]],
  ['U\x01aq\x00p1\nr\x02\x00\x00\x00\x94h\x00g1\nj\x02\x00\x00\x00h\x03(tK\x00', 0],
  ['U\x01a\x940h\x00h\x00\x86', new PickleTuple(['a', 'a'])],
  ['\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x05', 5],
]
for (const [pickle, value] of values) {
  test(`reads ${JSON.stringify(pickle)}`, (t) => {
    t.deepEqual(read(pickle), value)
  })
}

const refused: readonly (readonly [string, string, ...string[]])[] = [
  ['GLOBAL', 'cos\nsystem\n(U\x02ls\x85R', 'names os.system, which could run code'],
  ['a global of two strings', '\x8c\x08builtins\x8c\x04eval\x93', 'names builtins.eval, which could run code'],
  ['a global of something else', 'K\x01K\x02\x93', 'two strings', 'a number and a number'],
  ['a global with odd characters', 'ca\x01b\nx y\n', 'names "a\\u0001b.x y"'],
  ['INST', '(ios\nsystem\n', 'names os.system (INST)'],
  ['OBJ', '(cx\nY\no', 'names x.Y'],
  ['OBJ of a value', '(K\x01o', 'a number (OBJ)'],
  ['NEWOBJ', 'N)\x81', 'None (NEWOBJ)'],
  ['NEWOBJ_EX', 'N)}\x92', 'None (NEWOBJ_EX)'],
  ['an extension', '\x82\x01', 'an extension code'],
  ['REDUCE of a value', 'U\x01a)R', 'a call of a global', 'a call of a string'],
  ['BUILD of a dict', '}}b', 'state on an OrderedDict alone', 'builds a dict from a dict'],
  ['BUILD of None', 'N}b', 'builds None from a dict'],
  ['PERSID', 'P1\n', 'PERSID at byte 0'],
  ['a set', '\x8f', 'EMPTY_SET'],
  ['no opcode', '\x01', 'the byte 0x01 at byte 0'],
  ['a future protocol', '\x80\x06', 'protocol 0 to 5', 'protocol 6'],
  ['a value on an empty stack', '0', 'an empty stack'],
  ['no value at all', '', 'an empty stack'],
  ['values behind a mark', 'K\x01(\x85', 'an empty stack'],
  ['no mark', 'K\x01t', 'a MARK', 'none at byte 3'],
  ['an odd dict', '(K\x01d', 'a value for each key'],
  ['a list as key', '}]K\x01s', 'keys that Python can hash', 'a list'],
  ['append to a dict', '}K\x01a', 'a list to append to', 'a dict'],
  ['items of a list', ']K\x01K\x02s', 'a dict to set items of', 'a list'],
  ['a memo place never filled', 'h\x05', 'memo place', 'place 5'],
  ['a memo place far out', 'Nr\xff\xff\xff\xff', 'memo places in order', 'place 4294967295 after 0'],
  ['a string longer than the file', 'X\xff\xff\xff\xffab', '4294967295 more bytes', 'received 3'],
  ['a string of absurd length', '\x8d\xff\xff\xff\xff\xff\xff\xff\xffab', 'a length within the pickle', '18446744073709551615'],
  ['a frame longer than the file', '\x95\xff\xff\x00\x00\x00\x00\x00\x00', '65535 more bytes'],
  ['a string that is no UTF-8', 'U\x01\xff', 'strings in UTF-8'],
  ['an integer of words', 'Iten\n', 'an integer in digits', '"ten"'],
  ['a float of words', 'F1.2.3\n', 'a number in digits'],
  ['an endless line', `I${'1'.repeat(5000)}\n`, 'a line of at most 4096 bytes'],
  ['an integer of many digits', `L${'1'.repeat(2000)}L\n`, 'an integer in digits'],
  ['an integer of many bytes', `\x8b\x00\x10\x00\x00${'\x01'.repeat(4096)}`, 'an integer of at most 1000 bytes', '4096'],
  ['containers without end', ']'.repeat(300_000), 'a pickle of fewer values', 'more than 4194304'],
  ['marks without end', '('.repeat(1_100_000), 'at most 1048576 values at once'],
  ['a stack without end', 'N'.repeat(1_100_000), 'at most 1048576 values at once'],
]
for (const [name, pickle, ...texts] of refused) {
  test(`refuses ${name}`, async (t) => {
    await failsWith(t, () => read(pickle), '[torch]', 'a.bin', ...texts)
  })
}

test('nothing is called on the way to a refusal', async (t) => {
  let calls = 0
  const call = (): unknown => calls++
  const world: PickleWorld = { ...nothing, global: (name) => (name === 'a.b' ? new PickleGlobal(name, call) : undefined) }
  t.is(read('ca\nb\n)R', world), 0)
  await failsWith(t, () => read('cos\nsystem\nca\nb\n)R', world), 'os.system')
  await failsWith(t, () => read('ca\nb\n]R', world), 'a tuple of arguments for a.b', 'a list')
  t.is(calls, 1)
})

test('bytes that end too early are torn, or wait for the rest of the file', async (t) => {
  const whole = Buffer.from('(K\x01X\x03\x00\x00\x00abcJ\x01\x00\x00\x00Ltwo\nt.', 'latin1')
  for (let cut = 0; cut < whole.length - 6; cut++) {
    const torn = whole.subarray(0, cut)
    await failsWith(t, () => readPickle(new PickleSource(torn, true, refuse), nothing), 'more bytes of the pickle')
    t.throws(() => readPickle(new PickleSource(torn, false, refuse), nothing), { instanceOf: NeedsMoreBytes })
  }
})

test('one long list repeated costs each time', async (t) => {
  // 1,000 pairs, then OrderedDict(pairs) until the budget of 4 million is spent.
  const pairs = `](${'K\x01K\x02\x86'.repeat(1000)}e\x940`
  const again = 'ccollections\nOrderedDict\nh\x00\x85R0'
  const first = read(pairs + again.slice(0, -1), new TorchWorld(refuse)) as Map<unknown, unknown>
  t.true(first instanceof PickleOrderedDict)
  t.deepEqual([...first], [[1, 2]])
  await failsWith(t, () => read(pairs + again.repeat(5000), new TorchWorld(refuse)), 'a pickle of fewer values')
})

/** A persistent id on the stack: the storage "0" of so many elements. */
const storage = (type: string, elements = 6): string => `(U\x07storagec${type}\nU\x010U\x03cpuK${String.fromCharCode(elements)}tQ`
const tuple = (...numbers: readonly number[]): string => `(${numbers.map((n) => `K${String.fromCharCode(n)}`).join('')}t`
const float = storage('torch\nFloatStorage')
const v2 = (source: string, offset: number, shape: string, strides: string, more = ''): string =>
  `ctorch._utils\n_rebuild_tensor_v2\n(${source}K${String.fromCharCode(offset)}${shape}${strides}\x89N${more}tR`

test('a legacy window moves its tensor, and bounds it', async (t) => {
  const window = (offset: number, elements: number): string =>
    `(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06(U\x01wK${String.fromCharCode(offset)}K${String.fromCharCode(elements)}ttQ`
  const tensor = (pickle: string): unknown => read(pickle, new TorchWorld(refuse))
  t.like(tensor(v2(window(2, 3), 1, tuple(2), tuple(1))), { offset: 3, shape: [2], storage: { key: '0', elements: 6 } })
  await failsWith(t, () => tensor(v2(window(2, 3), 1, tuple(3), tuple(1))), 'a view within the 3 elements')
  await failsWith(t, () => tensor(window(4, 3)), 'a window within the 6 elements of storage "0"')
})

test('a tensor is a view within its storage', async (t) => {
  const tensor = (pickle: string): unknown => read(pickle, new TorchWorld(refuse))
  t.like(tensor(v2(float, 1, tuple(2, 2), tuple(3, 1))), { dtype: 'F32', offset: 1, shape: [2, 2], strides: [3, 1] })
  t.like(tensor(`ctorch._utils\n_rebuild_tensor\n(${float}K\x00${tuple(6)}${tuple(1)}tR`), { shape: [6] })
  const parameter = `ctorch._utils\n_rebuild_parameter\n(${v2(float, 0, tuple(), tuple())}\x88NtR`
  t.like(tensor(parameter), { shape: [], strides: [] })
  // Six floats are 24 bytes: as float8 the last of 24 elements is at 23.
  const bytes = storage('torch.storage\nUntypedStorage', 24)
  const v3 = (length: number): string =>
    `ctorch._utils\n_rebuild_tensor_v3\n(${bytes}K\x00${tuple(length)}${tuple(1)}\x89Nctorch\nuint16\ntR`
  t.like(tensor(v3(12)), { dtype: 'U16', shape: [12] })
  const refused: readonly (readonly [string, ...string[]])[] = [
    [v3(13), 'a view within the 12 elements of storage "0"', 'shape [13], strides [1] at element 0'],
    [v2(float, 0, tuple(7), tuple(1)), 'within the 6 elements', 'shape [7]'],
    [v2(float, 5, tuple(2), tuple(1)), 'within the 6 elements', 'at element 5'],
    [v2(float, 0, tuple(2, 2), tuple(5, 1)), 'within the 6 elements', 'strides [5, 1]'],
    [v2(float, 0, tuple(200), tuple(0)), 'within the 6 elements', 'shape [200], strides [0]'],
    [v2(float, 0, tuple(2), tuple()), 'an offset, a shape and as many strides'],
    [v2(float, 0, '(J\xff\xff\xff\xfft', tuple(1)), 'an offset, a shape'],
    [v2(float, 0, tuple(...new Array<number>(65).fill(1)), tuple(...new Array<number>(65).fill(1))), 'an offset, a shape'],
    [v2('K\x01', 0, tuple(1), tuple(1)), 'a storage for _rebuild_tensor_v2', 'a number'],
    [v2('N', 0, tuple(1), tuple(1)), 'a storage for', 'None'],
    [v2(float, 0, tuple(1), tuple(1), '}U\x04conj\x88s'), 'without flags'],
    ['ctorch._utils\n_rebuild_tensor_v2\n)R', '6 or 7 arguments', 'received 0'],
    ['ctorch._utils\n_rebuild_parameter\nN\x85R', 'the data of a parameter', 'None'],
    ['ctorch\nFloatStorage\n)R', 'torch.FloatStorage as something to call'],
    [`${float}0${storage('torch\nHalfStorage')}`, 'one description of storage "0"', '6 elements of F32 and 6 elements of F16'],
    [`${float}0${storage('torch\nFloatStorage', 7)}`, 'one description', '7 elements of F32'],
    [storage('torch.storage\nTypedStorage'), 'a storage type with an element type', 'torch.storage.TypedStorage'],
    [storage('torch\nComplexFloatStorage'), 'names torch.ComplexFloatStorage'],
    ['K\x01Q', 'storages as what stands outside the pickle', 'a number'],
    ['(U\x06moduleNtQ', 'a module with its source code'],
  ]
  for (const [pickle, ...texts] of refused) await failsWith(t, () => tensor(pickle), 'a.bin', ...texts)
})
