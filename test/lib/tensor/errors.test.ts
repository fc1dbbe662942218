// Wrong use of tensors and ops: an error in the one shape, from the binding or at the next wait, and never a crash.
import test from 'ava'
import type { ExecutionContext } from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { native } from '../../../lib/binding/native.js'
import type { Tensor } from '../../../lib/binding/native.js'
import { createDevice, fromFloats, numel, readFloats } from '../device.js'
import type { NativeDevice } from '../device.js'
import { loadFixture } from '../model/oracle.js'

interface Parts {
  where: string
  expected: RegExp
  received: RegExp
}

function holds(t: ExecutionContext, thrown: unknown, parts: Parts, what: string): void {
  if (!(thrown instanceof ThreefoldError)) return t.fail(`${what}: ${String(thrown)}`)
  const e = thrown
  t.is(e.where, parts.where, what)
  t.regex(e.expected, parts.expected, what)
  t.regex(e.received, parts.received, what)
  t.true(e.cure.length > 3, `${what}: a cure`)
  t.regex(e.message, /^\[[^\]]+\] expected .+, received .+\. Try .+\.$/s, what)
}

function refuses(t: ExecutionContext, what: string, parts: Parts, body: () => unknown): void {
  const thrown = t.throws(body as () => never, { any: true }, what)
  if (thrown !== undefined) holds(t, thrown, parts, what)
}

const zeros = (device: NativeDevice, shape: number[], dtype: 'fp32' | 'bf16' | 'int32' = 'fp32'): Tensor => device.alloc({ dtype, shape, category: 'activations', zeroed: true })
const untyped = (value: unknown): never => value as never

test('a disposed tensor is refused by everything but dispose', async (t) => {
  using device = createDevice({ threads: 1 })
  const gone = zeros(device, [2, 2])
  const whole = zeros(device, [2, 2])
  t.false(gone.disposed)
  gone.dispose()
  gone.dispose()
  t.true(gone.disposed)
  const parts = (where: string): Parts => ({ where, expected: /live tensor/, received: /disposed/ })
  refuses(t, 'read', parts('tensor.read'), () => gone.read())
  refuses(t, 'write', parts('tensor.write'), () => gone.write(new Float32Array(4)))
  refuses(t, 'view', parts('tensor.view'), () => gone.view(0, [1]))
  refuses(t, 'shape', parts('tensor.shape'), () => gone.shape)
  refuses(t, 'dtype', parts('tensor.dtype'), () => gone.dtype)
  refuses(t, 'op', parts('matmul'), () => native().matmul(device, { a: whole, b: gone }))
  refuses(t, 'op', parts('fill'), () => native().fill(device, { out: gone, value: 1 }))
  t.deepEqual(await readFloats(whole), new Float32Array(4), 'others are not harmed')
  whole.dispose()
})

test('a view outlives its parent, an op its input', async (t) => {
  using device = createDevice({ threads: 1 })
  const parent = fromFloats(device, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3])
  const view = parent.view(3, [3])
  parent.dispose()
  t.deepEqual(await readFloats(view), Float32Array.of(4, 5, 6))
  const a = fromFloats(device, Float32Array.of(2), [1, 1])
  const product = native().matmul(device, { a, b: a })
  a.dispose()
  t.deepEqual(await readFloats(product), Float32Array.of(4))
})

test('bad views', (t) => {
  using device = createDevice({ threads: 1 })
  const x = zeros(device, [2, 3])
  const inside: Parts = { where: 'tensor.view', expected: /inside \[2, 3\]/, received: /./ }
  refuses(t, 'too far', inside, () => x.view(4, [3]))
  refuses(t, 'too large', inside, () => x.view(0, [7]))
  refuses(t, 'huge offset', inside, () => x.view(2 ** 52, [1]))
  const offset: Parts = { where: 'tensor.view', expected: /an offset in elements/, received: /./ }
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 63, '1', null]) refuses(t, String(bad), offset, () => x.view(untyped(bad), [1]))
  const shape: Parts = { where: 'tensor.view', expected: /shape|dimensions/, received: /./ }
  for (const bad of [[-1], [0.5], [NaN], [2 ** 60, 8], [2 ** 32, 2 ** 32], [0, 2 ** 32, 2 ** 32], ['2'], 6, null]) refuses(t, JSON.stringify(bad), shape, () => x.view(0, untyped(bad)))
  refuses(t, 'five dimensions', { where: 'shape', expected: /at most 4/, received: /more/ }, () => x.view(0, [1, 1, 1, 1, 1]))
  t.deepEqual(x.view(6, [0]).shape, [0], 'an empty view at the end is fine')
})

test('bad allocations', (t) => {
  using device = createDevice({ threads: 1 })
  const make = (o: Record<string, unknown>): unknown => device.alloc(untyped({ dtype: 'fp32', shape: [1], category: 'activations', ...o }))
  refuses(t, 'dtype', { where: 'dtype', expected: /fp32/, received: /fp64/ }, () => make({ dtype: 'fp64' }))
  refuses(t, 'category', { where: 'alloc', expected: /a memory category/, received: /"other"/ }, () => make({ category: 'other' }))
  refuses(t, 'no category', { where: 'alloc', expected: /text/, received: /undefined/ }, () => make({ category: undefined }))
  refuses(t, 'shape', { where: 'alloc', expected: /2\^53 elements/, received: /4294967296/ }, () => make({ shape: [2 ** 32, 2 ** 32] }))
  refuses(t, 'no options', { where: 'alloc', expected: /object of options/, received: /something else/ }, () => device.alloc(untyped(undefined)))
})

test('writes of the wrong type or size', (t) => {
  using device = createDevice({ threads: 1 })
  const x = zeros(device, [2, 3])
  refuses(t, 'type', { where: 'tensor.write', expected: /Float32Array of 6/, received: /another type/ }, () => x.write(new Int32Array(6)))
  refuses(t, 'plain array', { where: 'tensor.write', expected: /Float32Array of 6/, received: /another type/ }, () => x.write(untyped([1, 2, 3, 4, 5, 6])))
  refuses(t, 'size', { where: 'tensor.write', expected: /6 elements/, received: /5 elements/ }, () => x.write(new Float32Array(5)))
  refuses(t, 'bf16', { where: 'tensor.write', expected: /Uint16Array of 2/, received: /another type/ }, () => zeros(device, [2], 'bf16').write(new Float32Array(2)))
  refuses(t, 'int32', { where: 'tensor.write', expected: /Int32Array of 2/, received: /another type/ }, () => zeros(device, [2], 'int32').write(new Float32Array(2)))
})

test('a write is copied at once, a slice of a larger buffer included', async (t) => {
  using device = createDevice({ threads: 1 })
  const buffer = Float32Array.of(0, 1, 2, 3)
  const x = zeros(device, [2])
  x.write(buffer.subarray(1, 3))
  buffer.fill(9)
  t.deepEqual(await readFloats(x), Float32Array.of(1, 2))
})

test('shapes that do not fit together are refused before anything runs', async (t) => {
  using device = createDevice({ threads: 1 })
  const n = native()
  const [a, b, flat] = [zeros(device, [2, 3]), zeros(device, [4, 3]), zeros(device, [3])]
  const half = zeros(device, [4, 3], 'bf16')
  const says = (where: string, expected: RegExp, received: RegExp): Parts => ({ where, expected, received })
  t.deepEqual(n.matmul(device, { a, b }).shape, [2, 4], 'the right call')
  refuses(t, 'inner size', says('matmul', /b of fp32 \[4, 3\]/, /\[4, 2\]/), () => n.matmul(device, { a, b: zeros(device, [4, 2]) }))
  refuses(t, 'rank', says('matmul', /a with 2 dimensions/, /\[3\]/), () => n.matmul(device, { a: flat, b }))
  refuses(t, 'bias', says('matmul', /bias of fp32 \[4\]/, /\[3\]/), () => n.matmul(device, { a, b, bias: flat }))
  refuses(t, 'activation', says('activation', /relu/, /"tanh"/), () => n.matmul(device, { a, b, activation: untyped('tanh') }))
  refuses(t, 'not a tensor', says('matmul', /a tensor as "a"/, /object/), () => n.matmul(device, { a: untyped({}), b }))
  refuses(t, 'missing', says('matmul', /a tensor as "b"/, /undefined/), () => n.matmul(device, untyped({ a })))
  refuses(t, 'norm weight', says('norm', /weight of fp32 \[3\]/, /\[2\]/), () => n.norm(device, { kind: 'rms', eps: 1e-6, x: a, weight: zeros(device, [2]) }))
  refuses(t, 'cast', says('cast', /\[2, 3\]/, /\[4, 3\]/), () => n.cast(device, { in: a, out: half }))
  refuses(t, 'add', says('add', /b of fp32 \[2, 3\]/, /bf16 \[4, 3\]/), () => n.add(device, { a, b: half, out: a }))
  refuses(t, 'rows', says('gatherRows', /rows from 0 to 1/, /2 at position 1/), () => n.gatherRows(device, { x: a, rows: Int32Array.of(0, 2) }))
  refuses(t, 'rows type', says('gatherRows', /an Int32Array as "rows"/, /0/), () => n.gatherRows(device, { x: a, rows: untyped([0]) }))
  refuses(t, 'gradients', says('gradientControl', /array of tensors/, /./), () => n.gradientControl(device, { grads: untyped(a) }))
  refuses(t, 'optimizer state', says('adamw', /m of fp32 \[3\]/, /\[2, 3\]/), () =>
    n.adamw(device, { param: flat, master: flat, grad: flat, m: a, v: flat, control: flat, lr: 1, beta1: 0, beta2: 0, eps: 1, weightDecay: 0, step: 1 }),
  )
  await device.sync()
})

test('token ids, targets and positions out of range name the place', async (t) => {
  using device = createDevice({ threads: 1 })
  const n = native()
  const table = zeros(device, [10, 4])
  const ids: Parts = { where: 'embedding', expected: /token ids from 0 to 9/, received: /10 at position 2/ }
  refuses(t, 'id', ids, () => n.embedding(device, { ids: Int32Array.of(0, 9, 10), table }))
  refuses(t, 'negative id', { ...ids, received: /-1 at position 0/ }, () => n.embedding(device, { ids: Int32Array.of(-1), table }))
  refuses(t, 'backward', { ...ids, where: 'embeddingBackward' }, () => n.embeddingBackward(device, { ids: Int32Array.of(0, 9, 10), dout: zeros(device, [3, 4]), dtable: table }))
  const positionTable = zeros(device, [6, 4])
  refuses(t, 'position', { where: 'embedding', expected: /positions from 0 to 3/, received: /4 at position 1/ }, () =>
    n.embedding(device, { ids: Int32Array.of(1, 2), table, positions: Int32Array.of(0, 4), positionTable, positionOffset: 2 }),
  )
  const hidden = zeros(device, [3, 4])
  refuses(t, 'target', { where: 'logprobs', expected: /token ids from 0 to 9/, received: /10 at position 0/ }, () =>
    n.logprobs(device, { hidden, weight: table, rows: Int32Array.of(0), targets: Int32Array.of(10) }),
  )
  refuses(t, 'one target per row', { where: 'logprobs', expected: /2 targets/, received: /1/ }, () =>
    n.logprobs(device, { hidden, weight: table, rows: Int32Array.of(0, 1), targets: Int32Array.of(1) }),
  )
  refuses(t, 'temperature', { where: 'logprobs', expected: /above 0/, received: /-1/ }, () =>
    n.logprobs(device, { hidden, weight: table, rows: Int32Array.of(0), targets: Int32Array.of(1), invTemperature: -1 }),
  )
  refuses(t, 'value rows', { where: 'values', expected: /rows from 0 to 2/, received: /3 at position 0/ }, () => n.values(device, { hidden, weight: zeros(device, [4]), rows: Int32Array.of(3) }))
  await device.sync()
})

test('batches that contradict themselves', (t) => {
  using device = createDevice({ threads: 1 })
  const make = (rows: Record<string, Int32Array | undefined>) => new (native().Batch)(device, untyped(rows))
  const ints = (...x: number[]) => Int32Array.from(x)
  const batch = (expected: RegExp): Parts => ({ where: 'batch', expected, received: /./ })
  refuses(t, 'starts beyond', batch(/ascend from 0 to the number of tokens \(3\)/), () => make({ starts: ints(0, 4), positions: ints(0, 1, 2) }))
  refuses(t, 'starts not rising', batch(/ascend/), () => make({ starts: ints(0, 2, 2, 3), positions: ints(0, 1, 2) }))
  refuses(t, 'starts not from 0', batch(/ascend/), () => make({ starts: ints(1, 3), positions: ints(0, 1, 2) }))
  refuses(t, 'negative position', batch(/positions of 0 or more/), () => make({ starts: ints(0, 1), positions: ints(-1) }))
  refuses(t, 'slots', batch(/2 slots/), () => make({ starts: ints(0, 2), positions: ints(0, 1), slots: ints(0) }))
  refuses(t, 'lengths', batch(/1 lengths/), () => make({ positions: ints(0), slots: ints(0), blockTable: ints(0), lengths: ints(1, 1) }))
  refuses(t, 'block table', batch(/one row per sequence/), () => make({ positions: ints(0, 0), slots: ints(0, 1), blockTable: ints(0), lengths: ints(1, 1) }))
  refuses(t, 'nothing', batch(/Int32Array as "positions"/), () => make({}))
  make({ starts: ints(0, 2), positions: ints(0, 1) }).dispose()
})

test('what is no device is refused', (t) => {
  using device = createDevice({ threads: 1 })
  const x = zeros(device, [1, 1])
  const parts: Parts = { where: 'matmul', expected: /a device/, received: /something else/ }
  for (const bad of [undefined, null, 1, 'cpu', {}, x]) refuses(t, String(bad), parts, () => native().matmul(untyped(bad), { a: x, b: x }))
  refuses(t, 'batch', { ...parts, where: 'batch' }, () => new (native().Batch)(untyped(x), { starts: Int32Array.of(0, 1), positions: Int32Array.of(0) }))
  t.throws(() => native().Device.prototype.stats.call(x as never), undefined, 'a method of another class')
  refuses(t, 'threads', { where: 'device', expected: /1 to 1024 threads/, received: /5000/ }, () => createDevice({ threads: 5000 }))
  refuses(t, 'gpu', { where: 'device', expected: /cpu, cuda, cuda:N or emulated/, received: /"gpu"/ }, () => createDevice({ device: 'gpu' }))
  // no module, no driver, no GPU or no hundredth one: each says so
  refuses(t, 'cuda:99', { where: 'device', expected: /CUDA|NVIDIA|cuda:0/, received: /./ }, () => createDevice({ device: 'cuda:99' }))
})

test('helpers', async (t) => {
  using device = createDevice({ threads: 1 })
  t.is(numel([2, 3, 4]), 24)
  const half = zeros(device, [3], 'bf16')
  half.write(Uint16Array.of(0x3f80, 0xc000, 0x7fc0))
  t.deepEqual(Array.from(await readFloats(half)), [1, -2, NaN])
  const thrown = await t.throwsAsync(readFloats(zeros(device, [1], 'int32')))
  holds(t, thrown, { where: 'tensor.read', expected: /fp32, bf16 or fp16/, received: /int32/ }, 'int32')
})

test('a tensor or a batch of another device is refused', async (t) => {
  using here = createDevice({ threads: 1 })
  using there = createDevice({ threads: 1 })
  const [a, b] = [zeros(here, [2, 2]), zeros(there, [2, 2])]
  const foreign = { expected: /tensors of the device it is called with/, received: /"b" of another device/ }
  refuses(t, 'op', { where: 'matmul', ...foreign }, () => native().matmul(here, { a, b }))
  refuses(t, 'list', { where: 'gradientControl', expected: foreign.expected, received: /another device/ }, () => native().gradientControl(here, { grads: [a, b] }))
  using model = await loadFixture(here, 'opt-tiny')
  const { decoder } = model
  const batch = new (native().Batch)(there, { starts: Int32Array.of(0, 2), positions: Int32Array.of(0, 1) })
  const x = zeros(here, [2, decoder.spec.hidden])
  refuses(t, 'batch', { where: 'layer.forward', expected: /a batch of the device/, received: /another device/ }, () => decoder.plans[0]!.forward(here, { params: decoder.layers[0]!.params, x, batch, save: false }))
  for (const thing of [a, b, x, batch]) thing.dispose()
})
