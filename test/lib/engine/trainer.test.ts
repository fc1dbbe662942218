// One optimizer step: gradients start at zero, the schedule counts applied steps, the norm is clipped.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { trainLogprobsLinear } from '../../../lib/engine/logprobs.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import type { TrainerOptions } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { createDevice } from '../device.js'
import { configs, freshModel, randomRows, trainerOptions } from '../contracts/support.js'

const batch = packRows(randomRows(5, 24))

function step(decoder: Decoder, trainer: Trainer, scale = 1) {
  return trainer.step(async () => {
    const grad = tokenLossGrad(batch.countedTotal, batch.countedTotal).map((g) => g * scale)
    return { loss: tokenLoss(await trainLogprobsLinear(decoder, batch, grad), batch.countedTotal), extra: 'kept' }
  })
}

async function weights(decoder: Decoder): Promise<Float32Array> {
  const parts = await Promise.all(decoder.units.map((u) => u.params.read() as Promise<Float32Array>))
  return Float32Array.from(parts.flatMap((p) => Array.from(p)))
}

async function after(options: Partial<TrainerOptions>, scales: number[]): Promise<{ weights: Float32Array; reports: Awaited<ReturnType<typeof step>>[] }> {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const trainer = new Trainer(model.decoder, { ...trainerOptions, ...options }, scales.length)
  const reports = []
  for (const scale of scales) reports.push(await step(model.decoder, trainer, scale))
  const result = { weights: await weights(model.decoder), reports }
  trainer.dispose()
  return result
}

test('the report carries what backward gave, the rate and the norm', async (t) => {
  const { reports } = await after({ lrSchedulerType: 'linear', numWarmupSteps: 2, learningRate: 1e-2 }, [1, 1, 1, 1])
  t.deepEqual(reports.map((r) => r.learningRate), [0, 5e-3, 1e-2, 5e-3])
  t.true(reports.every((r) => r.extra === 'kept' && r.applied && r.gradNorm > 0))
  t.is(reports[0]!.loss, reports[1]!.loss, 'the first step of a warm-up has rate 0')
  t.true(reports[3]!.loss < reports[1]!.loss)
})

test('gradients do not carry over from step to step', async (t) => {
  const { reports } = await after({ learningRate: 0 }, [1, 1, 1])
  t.is(new Set(reports.map((r) => r.gradNorm)).size, 1)
})

test('a skipped step does not use up the schedule', async (t) => {
  const { reports } = await after({ lrSchedulerType: 'linear', learningRate: 1e-2, maxSkippedSteps: 5 }, [1, NaN, NaN, 1])
  t.deepEqual(reports.map((r) => r.applied), [true, false, false, true])
  t.deepEqual(reports.map((r) => r.learningRate), [1e-2, 7.5e-3, 7.5e-3, 7.5e-3])
})

test('fp16: gradients are those of fp32 to their rounding, whatever the scale; an overflow skips the step and lowers it', async (t) => {
  using device = createDevice({ threads: 2 })
  configs['smooth'] = { ...configs['tiny'], activation_function: 'gelu' } // where relu's kink lies, rounding moves a gradient by all of it
  using model = await freshModel(device, 'smooth', { dtype: 'fp16' })
  using exact = await freshModel(device, 'smooth')
  const [trainer, reference] = [new Trainer(model.decoder, { ...trainerOptions, learningRate: 0 }, 8), new Trainer(exact.decoder, { ...trainerOptions, learningRate: 0 }, 8)]
  const gradients = async (decoder: Decoder): Promise<Float32Array> => Float32Array.from((await Promise.all(decoder.units.map((u) => u.grads!.read() as Promise<Float32Array>))).flatMap((g) => Array.from(g)))
  const [half, whole] = [await step(model.decoder, trainer), await step(exact.decoder, reference)]
  t.is(half.lossScale, 65536)
  t.is(whole.lossScale, null)
  t.true(Math.abs(half.gradNorm / whole.gradNorm - 1) < 3e-3, 'the norm is of the gradients as they are')
  const [scaled, want] = [await gradients(model.decoder), await gradients(exact.decoder)]
  const distance = Math.sqrt(want.reduce((s, g, i) => s + (scaled[i]! / 65536 - g) ** 2, 0)) / whole.gradNorm
  t.true(distance < 5e-3, `${distance}`)
  // 1e-6 of the loss: without the scale most of the gradients on the way would vanish in fp16
  const tiny = await step(model.decoder, trainer, 1e-6)
  t.true(Math.abs(tiny.gradNorm / (1e-6 * whole.gradNorm) - 1) < 0.02, `${tiny.gradNorm}`)

  const before = await model.decoder.layers[0]!.params.read()
  const scales: unknown[] = []
  for (const size of [1e4, 1e4, 1e4, 1]) {
    const report = await step(model.decoder, trainer, size)
    scales.push([report.lossScale, report.applied])
  }
  t.deepEqual(scales, [[65536, false], [65536, false], [32768, false], [16384, true]], 'hysteresis 2: the second overflow halves it')
  t.deepEqual(await model.decoder.layers[0]!.params.read(), before)
  t.is(trainer.skipped, 3)
  t.notThrows(() => trainer.snapshot())
  trainer.dispose()
  reference.dispose()
})

test('fp16: a loss that is not finite ends the run as elsewhere, a scale that can fall does not', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny', { dtype: 'fp16' })
  const trainer = new Trainer(model.decoder, { ...trainerOptions, maxSkippedSteps: 2 }, 40)
  const overflow = (): Promise<unknown> => step(model.decoder, trainer, Infinity)
  for (let i = 0; i < 17; i++) await overflow()
  t.is(trainer.lossScale!.scale, 1)
  await overflow()
  const error = await t.throwsAsync(overflow)
  t.regex(error!.message, /2 steps in a row\. Try .*or --dtype bf16/)
  trainer.dispose()
  const other = new Trainer(model.decoder, { ...trainerOptions, maxSkippedSteps: 2 }, 40)
  const diverged = (): Promise<unknown> => other.step(() => Promise.resolve({ loss: Number.NaN }))
  await diverged()
  await t.throwsAsync(diverged, { message: /loss NaN/ })
  other.dispose()
})

test('the norm is clipped: larger gradients beyond it change nothing, off means off', async (t) => {
  const close = (a: Float32Array, b: Float32Array): number => a.reduce((top, x, i) => Math.max(top, Math.abs(x - b[i]!)), 0)
  const settings = { adamEps: 1, learningRate: 0.1 } // a large epsilon makes Adam feel the size of a gradient
  const [once, tenfold] = [await after({ ...settings, maxGradNorm: 0.01 }, [1]), await after({ ...settings, maxGradNorm: 0.01 }, [10])]
  t.true(close(once.weights, tenfold.weights) < 1e-6)
  t.true(tenfold.reports[0]!.gradNorm > 9 * once.reports[0]!.gradNorm, 'the report is of before clipping')
  const [free, freeTenfold] = [await after({ ...settings, maxGradNorm: 0 }, [1]), await after({ ...settings, maxGradNorm: 0 }, [10])]
  t.true(close(free.weights, freeTenfold.weights) > 1e-3)
})
