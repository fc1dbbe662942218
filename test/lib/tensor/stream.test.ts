// The stream: order, sticky errors, waits, devices that go while work is queued, worker threads.
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

import test from 'ava'

import { packageRoot } from '../../../lib/binding/load.js'
import { native } from '../../../lib/binding/native.js'
import type { NativeDevice, Tensor } from '../../../lib/binding/native.js'
import { createDevice, fromFloats, onGpu, readFloats } from '../device.js'

const zeros = (device: NativeDevice, shape: number[], dtype: 'fp32' | 'bf16' = 'fp32'): Tensor => device.alloc({ dtype, shape, category: 'activations', zeroed: true })
/** fill takes fp32 and int32 only, which its kernel finds when it runs. */
const poison = (device: NativeDevice): void => native().fill(device, { out: zeros(device, [2], 'bf16'), value: 1 })
const poisoned = /^\[fill\] expected fp32 or int32, received bf16\. Try filling fp32 and casting\.$/

test('ops run in the order they were enqueued, reads see what came before them', async (t) => {
  using device = createDevice({ threads: 2 })
  const x = fromFloats(device, Float32Array.of(1), [1])
  const reads: Promise<Float32Array>[] = []
  for (let i = 0; i < 10; i++) {
    native().add(device, { a: x, b: x, out: x })
    reads.push(readFloats(x))
  }
  native().fill(device, { out: x, value: 7 })
  t.deepEqual((await Promise.all(reads)).map((v) => v[0]), [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
  t.is((await readFloats(x))[0], 7)
})

test('enqueueing returns at once', async (t) => {
  using device = createDevice({ threads: 1 })
  const n = onGpu ? 8192 : 1024
  const [a, b] = [zeros(device, [n, n]), zeros(device, [n, n])]
  const started = performance.now()
  for (let i = 0; i < 6; i++) native().matmul(device, { a, b }).dispose()
  const enqueued = performance.now() - started
  await device.sync()
  const all = performance.now() - started
  t.true(enqueued < all / 4, `${enqueued} of ${all} ms`)
  t.true(device.stats().busySeconds * 1000 > all / 2, 'the time went into the ops')
})

test('an error names its op, surfaces at the next wait and at every later one', async (t) => {
  using device = createDevice({ threads: 1 })
  const x = fromFloats(device, Float32Array.of(5), [1])
  t.notThrows(() => poison(device), 'not at the call')
  native().fill(device, { out: x, value: 6 })
  for (let i = 0; i < 3; i++) await t.throwsAsync(device.sync(), { message: poisoned })
  await t.throwsAsync(x.read(), { message: poisoned })
  poison(device)
  native().matmul(device, { a: zeros(device, [1, 1]), b: zeros(device, [1, 1]) })
  const thrown = await t.throwsAsync<Error & { where: string; expected: string; received: string; cure: string }>(device.sync())
  t.deepEqual([thrown.where, thrown.expected, thrown.received, thrown.cure], ['fill', 'fp32 or int32', 'bf16', 'filling fp32 and casting'])
})

test('clearError: later ops run again, those between were skipped', async (t) => {
  using device = createDevice({ threads: 1 })
  const x = fromFloats(device, Float32Array.of(5), [1])
  poison(device)
  native().fill(device, { out: x, value: 6 })
  await t.throwsAsync(device.sync(), { message: poisoned })
  device.clearError()
  await device.sync()
  t.is((await readFloats(x))[0], 5, 'skipped, not run late')
  native().fill(device, { out: x, value: 7 })
  t.is((await readFloats(x))[0], 7)
  device.clearError()
  t.is((await readFloats(x))[0], 7, 'clearing nothing changes nothing')
})

test('the error of one device is not that of another', async (t) => {
  using one = createDevice({ threads: 1 })
  using other = createDevice({ threads: 1 })
  poison(one)
  await t.throwsAsync(one.sync(), { message: poisoned })
  await t.notThrowsAsync(other.sync())
})

test('memory that is not there is an error with the op, not a crash', async (t) => {
  using device = createDevice({ threads: 1 })
  const huge = zeros(device, [2 ** 46])
  native().fill(device, { out: huge, value: 1 })
  await t.throwsAsync(device.sync(), { message: /^\[fill: memory\] expected room for \d+ more bytes of activations, received out of memory with \d+\.\d MiB in use/ })
  huge.dispose()
  device.clearError()
  await device.sync()
  t.is(device.stats().total, 0)
  const long = zeros(device, [2 ** 40])
  t.throws(() => long.read(), { message: /tensor\.read/ }, 'JavaScript cannot hold it either')
})

test('a device with pending work is disposed: waits settle, later use is refused', async (t) => {
  const device = createDevice({ threads: 2 })
  const a = fromFloats(device, new Float32Array(512 * 512).fill(1), [512, 512])
  const products = Array.from({ length: 5 }, () => native().matmul(device, { a, b: a }))
  const reads = products.map((p) => readFloats(p))
  const synced = device.sync()
  device.dispose()
  device.dispose()
  for (const values of await Promise.all(reads)) t.true(values.every((v) => v === 512))
  await t.notThrowsAsync(synced)
  const gone = { message: /expected an open device, received a disposed one/ }
  t.throws(() => device.stats(), gone)
  t.throws(() => device.sync(), gone)
  t.throws(() => zeros(device, [1]), gone)
  t.throws(() => native().fill(device, { out: a, value: 1 }), gone)
  t.throws(() => a.read(), gone)
  t.throws(() => new (native().Batch)(device, { starts: Int32Array.of(0, 1), positions: Int32Array.of(0) }), gone)
  for (const p of [...products, a]) t.notThrows(() => p.dispose(), 'freeing late is fine')
})

test('a device with a sticky error is disposed: waits reject', async (t) => {
  const device = createDevice({ threads: 1 })
  poison(device)
  const waiting = device.sync()
  device.dispose()
  await t.throwsAsync(waiting, { message: poisoned })
})

const workerCode = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { Device, matmul } = require(workerData.addon)
  const device = new Device({ threads: 2 })
  const a = device.alloc({ dtype: 'fp32', shape: [64, 64], category: 'activations' })
  a.write(new Float32Array(4096).fill(0.5))
  if (workerData.hang) {
    const loop = async () => {
      for (;;) {
        await Promise.all(Array.from({ length: 20 }, () => matmul(device, { a, b: a }).read()))
        await device.sync()
      }
    }
    loop()
    parentPort.postMessage('busy')
  } else {
    matmul(device, { a, b: a }).read().then((v) => parentPort.postMessage([v[0], v[4095], v.length]))
  }
`
const start = (hang: boolean): Worker => new Worker(workerCode, { eval: true, execArgv: [], workerData: { addon: join(packageRoot, 'build', 'Release', 'threefold.node'), hang } })

function outcome(worker: Worker): Promise<{ message: unknown; code: number }> {
  return new Promise((resolve, reject) => {
    let message: unknown
    worker.once('message', (m) => (message = m))
    worker.once('error', reject)
    worker.once('exit', (code) => resolve({ message, code }))
  })
}

test('the addon works in several worker threads at once, and here beside them', async (t) => {
  using device = createDevice({ threads: 1 })
  const workers = [start(false), start(false), start(false)].map(outcome)
  const here = fromFloats(device, Float32Array.of(3), [1, 1])
  t.is((await readFloats(native().matmul(device, { a: here, b: here })))[0], 9)
  for (const { message, code } of await Promise.all(workers)) {
    t.deepEqual(message, [16, 16, 4096])
    t.is(code, 0, 'an idle device does not keep its thread alive')
  }
})

test('a device disposed of in the middle of its work blocks nobody, and what was enqueued still settles', async (t) => {
  const device = createDevice({ threads: 1 })
  const a = fromFloats(device, new Float32Array(1024 * 1024).fill(0.5), [1024, 1024])
  let last = a
  for (let i = 0; i < 10; i++) {
    const next = native().matmul(device, { a: last, b: a })
    if (last !== a) last.dispose()
    last = next
  }
  const read = last.read()
  const begun = performance.now()
  device.dispose()
  const took = performance.now() - begun
  const values = await read
  const work = performance.now() - begun
  t.is(values.length, 1024 * 1024)
  t.true(took < work / 4, `dispose took ${took} ms of the ${work} ms that the work took`)
  t.throws(() => device.stats(), { message: /open device/ })
})

test('workers ended at any point of their work take nothing down', async (t) => {
  for (let delay = 0; delay < 12; delay++) {
    const worker = start(true)
    const ended = outcome(worker)
    await new Promise((resolve) => worker.once('message', resolve))
    await sleep(delay % 6)
    await worker.terminate()
    t.is((await ended).message, 'busy')
  }
  using device = createDevice({ threads: 1 })
  await t.notThrowsAsync(device.sync())
})
