// Texts mixed into PPO: what they do, in what order they come, and what is refused.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Progress } from '../../../lib/base/progress.js'
import { Run } from '../../../lib/base/run.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { PretrainingMix } from '../../../lib/stages/pretrainingMix.js'
import { reward } from '../../../lib/stages/reward.js'
import { silent } from '../../../lib/stages/shared.js'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { createDevice } from '../../../lib/tensor/device.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, makeSetting, readLines, steps } from './support.js'

const texts = Array.from({ length: 20 }, (_, i) => ({ text: `the ${'letters '.repeat(1 + (i % 3))}of text ${i}.` }))

test('ppo: the texts are learnt beside the reward, and forgotten without them', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const critic = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, maxSteps: 3, outputDir: join(folder, 'critic') })).model!
  const path = await writeLines(folder, 'texts.jsonl', texts)
  const shared = { actorModelNameOrPath: model, criticModelNameOrPath: critic, dataPath: [data], maxPromptSeqLen: 20, maxAnswerSeqLen: 12, perDeviceGenerationBatchSize: 8, perDeviceTrainingBatchSize: 4, numWarmupSteps: 0, actorLearningRate: 3e-3, maxSteps: 12, checkLogprobs: true }
  await ppo({ ...shared, unsupervisedDatasetName: path, unsupCoef: 2, outputDir: join(folder, 'mixed') })
  const lines = steps(await readLines(join(folder, 'mixed'), 'metrics'))
  const losses = column(lines, 'actor/ptx_loss')
  t.true(losses.at(-1)! < losses[0]! - 1, losses.join(' '))
  t.true(column(lines, 'rollout/logprob_gap_max').every((gap) => gap === 0))
  await ppo({ ...shared, outputDir: join(folder, 'plain') })
  t.true(column(steps(await readLines(join(folder, 'plain'), 'metrics')), 'actor/ptx_loss').every((x) => x === null))
  await failsWith(t, () => ppo({ ...shared, unsupervisedDatasetName: join(folder, 'no-such.jsonl') }), 'no-such.jsonl')
  await mkdir(join(folder, 'sets', 'small'), { recursive: true })
  await writeLines(join(folder, 'sets', 'small'), 'train.jsonl', texts)
  await failsWith(t, () => ppo({ ...shared, unsupervisedDatasetName: join(folder, 'sets'), unsupervisedDatasetConfigName: 'large' }), `[--unsupervised-dataset-config-name] expected a folder of ${join(folder, 'sets')}: small, received "large". Try one of these.`)
  await ppo({ ...shared, maxSteps: 1, unsupervisedDatasetName: join(folder, 'sets'), unsupervisedDatasetConfigName: 'small' })
})

test('the packs of a step follow from the step alone, and an epoch has each once', async (t) => {
  const { folder, model } = await makeSetting(t)
  const path = await writeLines(folder, 'texts.jsonl', texts)
  using device = createDevice({ threads: 1 })
  using loaded = await LoadedModel.load(device, model, { dtype: 'fp32' })
  const run = await Run.open('ppo', null, {}, { ...silent, progress: new Progress(process.stderr, true) })
  const options = { unsupervisedDatasetName: path, unsupervisedDatasetConfigName: null, maxPromptSeqLen: 24, maxAnswerSeqLen: 24, perDeviceTrainingBatchSize: 2, gradientAccumulationSteps: 2, dataOutputPath: 'none', threads: 1, seed: 5 }
  using mix = (await PretrainingMix.open(run, loaded, options))!
  const ids = (step: number): number[][][] => mix.batches(step).map((rows) => rows.map((r) => Array.from(r.ids)))
  const [third, first] = [ids(3), ids(1)]
  t.deepEqual(ids(3), third)
  t.notDeepEqual(first, third)
  t.is(first.length, 2)
  const tokens = (step: number): number => ids(step).flat(2).length
  t.true(first.every((rows) => rows.flat().length <= 2 * 48), 'a pack is no longer than prompt and answer')
  // all tokens of the texts once, as soon as an epoch is over
  let sum = 0
  for (let step = 1; step <= 40; step++) sum += tokens(step)
  using again = (await PretrainingMix.open(run, loaded, { ...options, perDeviceTrainingBatchSize: 1, gradientAccumulationSteps: 1 }))!
  let one = 0
  for (let step = 1; step <= 160; step++) one += again.batches(step).flat().reduce((n, r) => n + r.ids.length, 0)
  t.is(one, sum, 'a batch of four is four batches of one')
  t.is(await PretrainingMix.open(run, loaded, { ...options, unsupervisedDatasetName: null }), null)
  await run.close()
})
