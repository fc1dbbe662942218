// Contract 1: what the sampler recorded and what the trainer recomputes are the same bits, however the work is cut.
import { execFile } from 'node:child_process'
import { extname, join } from 'node:path'
import { promisify } from 'node:util'

import test from 'ava'

import { native } from '../../../lib/binding/native.js'
import { logprobGap, makeRollouts, packRollouts } from '../../../lib/engine/experience.js'
import { scoreLogprobs } from '../../../lib/engine/logprobs.js'
import { createDevice, onCpu, slow } from '../device.js'
import type { DType } from '../device.js'
import { differingInTraining, differingRows, packings, sampleAndRecompute } from './recompute.js'
import { anyModel, bitsOf, generation, nudge, randomPrompts } from './support.js'

const run = promisify(execFile)
const names = slow ? ['opt-odd', 'llama-tiny'] : ['opt-tiny', 'opt-odd', 'llama-tiny', 'llama-odd', 'wide-opt', 'wide-llama']
const dtypes: DType[] = ['fp32', 'bf16', 'fp16']
/** Beside this file, and compiled where it is. */
const isaRun = join(import.meta.dirname, `isaRun${extname(import.meta.filename)}`)

/** Every pair of neighbours in these lists occurs together at least once per temperature. */
const cuts = [
  { maxBatch: 1, pageSize: 1, threads: 1 },
  { maxBatch: 1, pageSize: 100, threads: 3 },
  { maxBatch: 3, pageSize: 4, threads: 2 },
  { maxBatch: 3, pageSize: 16, threads: 1 },
  { maxBatch: 8, pageSize: 1, threads: 3 },
  { maxBatch: 8, pageSize: 16, threads: 2 },
  { maxBatch: 8, pageSize: 100, threads: 1 },
].filter((_, i) => !slow || i % 3 === 0)

for (const name of names)
  for (const dtype of dtypes) {
    test(`${name} ${dtype}: recorded and recomputed log-probs are the same bits, samples do not depend on the cut`, async (t) => {
      const expected = new Map<number, Int32Array>()
      for (const { threads, ...cut } of cuts) {
        using device = createDevice({ threads })
        using model = await anyModel(device, name, dtype)
        const { vocab } = model.decoder.spec
        const prompts = randomPrompts(slow ? 6 : 10, name.startsWith('wide') ? 90 : 12, vocab)
        for (const temperature of [0.7, 1]) {
          const { rollouts, differing } = await sampleAndRecompute(model.decoder, prompts, generation(vocab, { temperature, ...cut }))
          t.is(differing, 0, `rows that differ at ${JSON.stringify({ ...cut, threads, temperature })}`)
          t.false(await differingInTraining(model.decoder, rollouts, temperature), 'the training forward agrees')
          const bits = bitsOf(rollouts)
          const first = expected.get(temperature)
          if (first) t.deepEqual(bits, first, `samples at ${JSON.stringify({ ...cut, threads, temperature })}`)
          else {
            expected.set(temperature, bits)
            const lengths = new Set(rollouts.map((r) => r.answer.length))
            t.true(lengths.size >= 3 && rollouts.some((r) => r.finish === 'stop'), 'rows stop at different places')
          }
        }
      }
      t.notDeepEqual(expected.get(0.7), expected.get(1))
    })
  }

// The wide models cross the borders of sums, which the emulated device crosses in its native tests.
const wide = slow ? 'opt-tiny' : 'wide-opt'

test('threads of the recomputing device may differ from those of the sampling one', async (t) => {
  using one = createDevice({ threads: 1 })
  using three = createDevice({ threads: 3 })
  using sampler = await anyModel(one, wide)
  using trainer = await anyModel(three, wide)
  const { vocab } = sampler.decoder.spec
  const rollouts = await makeRollouts(sampler.decoder, randomPrompts(8, slow ? 12 : 90, vocab), generation(vocab))
  for (const packing of packings(8)) t.is(await differingRows(trainer.decoder, rollouts, 1, packing), 0)
})

test('the stop callback ends rows in the middle and changes nothing before', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await anyModel(device, 'opt-tiny')
  const { vocab } = model.decoder.spec
  const prompts = randomPrompts(9, 12, vocab)
  const options = generation(vocab, { eosIds: [], maxNewTokens: 12 })
  const whole = await makeRollouts(model.decoder, prompts, options)
  const drawn = new Map<number, number>()
  const stop = (index: number): boolean => {
    drawn.set(index, (drawn.get(index) ?? 0) + 1)
    return drawn.get(index) === 1 + (index % 5)
  }
  const { rollouts, differing } = await sampleAndRecompute(model.decoder, prompts, { ...options, maxBatch: 3, stop })
  t.is(differing, 0)
  for (const [i, r] of rollouts.entries()) {
    t.is(r.answer.length, 1 + (i % 5))
    t.is(r.finish, 'stop')
    t.deepEqual(r.answer, whole[i]!.answer.slice(0, r.answer.length))
  }
})

test('a weight that moved between sampling and recomputing is detected', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await anyModel(device, 'opt-tiny')
  const { vocab } = model.decoder.spec
  const { rollouts, differing } = await sampleAndRecompute(model.decoder, randomPrompts(8, 12, vocab), generation(vocab))
  t.is(differing, 0)
  t.is(logprobGap(rollouts, await scoreLogprobs(model.decoder, packRollouts(rollouts))), 0)
  await nudge(model.decoder, 1, 40, 1e-3)
  t.true((await differingRows(model.decoder, rollouts, 1, packings(8)[0]!)) > 4)
  const gap = logprobGap(rollouts, await scoreLogprobs(model.decoder, packRollouts(rollouts)))
  t.true(gap > 0 && gap < 0.1, `gap ${gap}`)
})

test('another temperature is detected', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await anyModel(device, 'llama-tiny')
  const { vocab } = model.decoder.spec
  const { rollouts } = await sampleAndRecompute(model.decoder, randomPrompts(8, 12, vocab), generation(vocab, { temperature: 0.7 }))
  t.true((await differingRows(model.decoder, rollouts, 0.7001, packings(8)[0]!)) > 4)
})

if (onCpu) {
  test('bit-equal on every instruction set this CPU has', async (t) => {
    const sums = new Set<number>()
    for (const isa of native().cpuInfo().available) {
      const { stdout } = await run(process.execPath, [...process.execArgv, isaRun], { env: { ...process.env, THREEFOLD_ISA: isa } })
      const found = JSON.parse(stdout) as { isa: string; differing: number; tokens: number; sum: number }
      t.is(found.isa, isa, 'the process used the set it was told to')
      t.is(found.differing, 0, isa)
      t.true(found.tokens > 300)
      sums.add(found.sum)
    }
    t.is(sums.size, native().cpuInfo().available.length, 'the sets round differently, so each was really run')
  })

  test('an instruction set that does not exist is refused by name', async (t) => {
    const failed = await t.throwsAsync(run(process.execPath, [...process.execArgv, isaRun], { env: { ...process.env, THREEFOLD_ISA: 'mmx' } }))
    t.regex((failed as Error & { stderr: string }).stderr, /THREEFOLD_ISA|instruction set/)
  })
}
