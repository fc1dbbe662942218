// Contract 4: JavaScript never blocks. A 20 ms interval keeps its beat while kernels run.
import { setTimeout as sleep } from 'node:timers/promises'

import test from 'ava'

import { native } from '../../../lib/binding/native.js'
import { packRows } from '../../../lib/data/packing.js'
import { trainLogprobsLinear } from '../../../lib/engine/logprobs.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { createDevice, slow } from '../device.js'
import type { NativeDevice } from '../device.js'
import { freshModel, randomIds, trainerOptions } from './support.js'
import { RandomSequence } from '../../../lib/base/random.js'

const beat = 20
const allowed = 20
const tries = 3

/** 99th percentile of how late a 20 ms interval fires while `work` runs, in milliseconds. */
async function lateness(work: () => Promise<unknown>): Promise<number> {
  const late: number[] = []
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    late.push(Math.max(0, now - last - beat))
    last = now
  }, beat)
  try {
    await work()
    late.push(Math.max(0, performance.now() - last - beat)) // a beat that never came
  } finally {
    clearInterval(timer)
  }
  late.sort((a, b) => a - b)
  return late[Math.min(late.length - 1, Math.floor(late.length * 0.99))]!
}

const idle = (): Promise<void> => sleep(800)

/** The best of three comparisons: a busy machine may delay a beat, blocked JavaScript delays it every time. */
async function excess(work: () => Promise<unknown>): Promise<number> {
  let best = Infinity
  for (let i = 0; i < tries && best > allowed; i++) {
    const rest = await lateness(idle)
    best = Math.min(best, (await lateness(work)) - rest)
  }
  return best
}

async function matmuls(device: NativeDevice, n: number, times: number): Promise<void> {
  const make = () => device.alloc({ dtype: 'fp32', shape: [n, n], category: 'activations', zeroed: true })
  const [a, b] = [make(), make()]
  for (let i = 0; i < times; i++) native().matmul(device, { a, b }).dispose()
  a.dispose()
  b.dispose()
  await device.sync()
}

/** Again and again, until the device has been at it for a while. */
async function busily(device: NativeDevice, work: () => Promise<unknown>): Promise<void> {
  const end = device.stats().busySeconds + 0.15
  do await work()
  while (device.stats().busySeconds < end)
}

test.serial('the beat is kept while large matmuls run', async (t) => {
  using device = createDevice({ threads: 2 })
  await matmuls(device, 64, 1)
  const before = device.stats().busySeconds
  const found = await excess(() => busily(device, () => matmuls(device, slow ? 128 : 2048, 4)))
  t.true(device.stats().busySeconds - before > 0.1, 'the device was busy')
  t.true(found <= allowed, `99th percentile ${found.toFixed(1)} ms later than idle`)
})

test.serial('the beat is kept while training steps run', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'wide-llama')
  const trainer = new Trainer(model.decoder, trainerOptions, 100)
  const random = new RandomSequence(1, 1)
  const [count, length] = slow ? [1, 20] : [10, 200]
  const rows = Array.from({ length: count! }, () => ({ ids: randomIds(random, length!, 1051), counted: new Uint8Array(length!).fill(1, 1) }))
  const batch = packRows(rows)
  const step = () =>
    trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(model.decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) }))
  await step()
  const before = device.stats().busySeconds
  const found = await excess(() => busily(device, step))
  t.true(device.stats().busySeconds - before > 0.1, 'the device was busy')
  t.true(found <= allowed, `99th percentile ${found.toFixed(1)} ms later than idle`)
  trainer.dispose()
})

test.serial('the measure sees JavaScript that blocks', async (t) => {
  const blocked = await excess(async () => {
    await sleep(100)
    const until = performance.now() + 120
    while (performance.now() < until);
    await sleep(100)
  })
  t.true(blocked > allowed, `${blocked} ms`)
})
