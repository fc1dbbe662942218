// The reward model from pairs to a folder that loads again; the control with shuffled labels learns nothing.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { normal95, wilsonInterval } from '../../../lib/base/statistics.js'
import { reward } from '../../../lib/stages/reward.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, evaluations, makeSetting, readLines, steps, stopAt, weightsOf } from './support.js'

const small = { perDeviceTrainBatchSize: 8, learningRate: 3e-3, lrSchedulerType: 'constant' as const, maxSeqLen: 48, threads: 2 }

test('reward: accuracy on held-out pairs rises; metrics, interval and folder', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const result = await reward({ ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 8, evalInterval: 20, outputDir })
  const lines = await readLines(outputDir, 'metrics')
  const trained = steps(lines)
  t.is(trained.length, 40)
  for (const name of ['loss', 'rewards/accuracies', 'rewards/chosen', 'rewards/rejected', 'rewards/margins', 'grad_norm', 'learning_rate', 'num_tokens', 'step_time', 'perf/throughput', 'skipped_steps'])
    t.true(column(trained, name).every((x) => Number.isFinite(x)), name)
  t.true(Math.abs(column(trained, 'loss')[0]! - Math.LN2) < 0.2, 'starts near ln 2')
  t.true(column(trained, 'loss').at(-1)! < 0.2)
  for (const l of trained) t.true(Math.abs((l['rewards/margins'] as number) - ((l['rewards/chosen'] as number) - (l['rewards/rejected'] as number))) < 1e-9)

  const after = result.after!
  t.true(after.accuracy > 0.9 && after.chosen > after.rejected && after.loss < result.before!.loss)
  t.is(after.pairs, 13)
  t.deepEqual(after.interval, wilsonInterval(after.accuracy * 13, 13, normal95))
  const judged = evaluations(lines)
  t.deepEqual(column(judged, 'step'), [0, 20, 40])
  t.like(judged[2], { 'eval/accuracy': after.accuracy, 'eval/loss': after.loss, 'eval/rewards/chosen': after.chosen, 'eval/rewards/rejected': after.rejected, 'eval/accuracy_low': after.interval[0], 'eval/accuracy_high': after.interval[1] })

  const config = JSON.parse(await readFile(join(result.model!, 'config.json'), 'utf8')) as Record<string, unknown>
  t.deepEqual(config['architectures'], ['OPTForSequenceClassification'])
  const again = await reward({ ...small, modelNameOrPath: result.model!, dataPath: [data], evalFraction: 0.25, maxSteps: 1, learningRate: 0 })
  t.deepEqual(again.before, after, 'the saved head scores as the trained one did')
})

test('reward: shuffled labels are a control that learns nothing', async (t) => {
  const { model, data } = await makeSetting(t)
  const run = { ...small, modelNameOrPath: model, dataPath: [data], evalDataPath: [data], numTrainEpochs: 2 }
  const trained = await reward(run)
  const control = await reward({ ...run, shuffleLabels: true })
  t.true(trained.after!.accuracy > 0.9, `${trained.after!.accuracy}`)
  t.true(control.after!.accuracy < 0.75, `${control.after!.accuracy}`)
})

test('reward: micro-batches add up, the centring term keeps scores around zero', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = async (name: string, more: object) => {
    await reward({ ...small, modelNameOrPath: model, dataPath: [data], maxSteps: 12, numTrainEpochs: 3, outputDir: join(folder, name), ...more })
    return steps(await readLines(join(folder, name), 'metrics'))
  }
  const whole = await run('whole', {})
  const cut = await run('cut', { perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4 })
  for (const [i, l] of cut.entries()) {
    t.true(Math.abs((l['loss'] as number) - (whole[i]!['loss'] as number)) < 1e-4, `step ${i}`)
    t.is(l['rewards/accuracies'], whole[i]!['rewards/accuracies'])
  }
  const centred = await run('centred', { centerRewardsCoefficient: 1 })
  const offset = (l: (typeof whole)[number]): number => Math.abs((l['rewards/chosen'] as number) + (l['rewards/rejected'] as number))
  t.true(offset(centred.at(-1)!) < 0.5)
  t.true(centred[0]!['loss'] !== whole[0]!['loss'])
})

test('reward: a signal saves and throws; wrong rows and models are refused', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const error = await t.throwsAsync(reward({ ...small, modelNameOrPath: model, dataPath: [data], numTrainEpochs: 20, outputDir }, stopAt(/ 1\/120 /).hooks), { instanceOf: Interrupted })
  t.is(error.saved, join(outputDir, 'model'))
  t.is(steps(await readLines(outputDir, 'metrics')).length, 1)
  t.true((await weightsOf(error.saved!)).length > 0)
  const texts = await writeLines(folder, 'texts.jsonl', [{ text: 'a' }])
  await failsWith(t, () => reward({ modelNameOrPath: model, dataPath: [texts] }), 'line 1', 'two answers', '{text}')
})

test('reward: --eval-iters judges so many batches of held-out pairs, the same ones each time', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = (more: object) => reward({ ...small, learningRate: 0, modelNameOrPath: model, dataPath: [data], evalFraction: 0.5, perDeviceEvalBatchSize: 4, evalInterval: 1, maxSteps: 2, ...more })
  const all = (await run({})).after!
  t.true(all.pairs > 20)
  const outputDir = join(folder, 'two')
  const two = await run({ evalIters: 2, outputDir })
  t.is(two.after!.pairs, 8)
  t.not(two.after!.loss, all.loss)
  // nothing is learnt, so the same pairs give the same figures
  t.deepEqual(column(evaluations(await readLines(outputDir, 'metrics')), 'eval/loss'), [two.after!.loss, two.after!.loss, two.after!.loss])
  t.not((await run({ evalIters: 2, seed: 5 })).after!.loss, two.after!.loss)
  t.deepEqual((await run({ evalIters: 100 })).after!.pairs, all.pairs, 'no more than there are')
})
