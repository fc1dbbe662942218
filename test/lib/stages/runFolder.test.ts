// A run's folder is its own: no second run at a time, nothing of an ended run is lost unasked, nothing is left of one that never began.
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Progress } from '../../../lib/base/progress.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { train } from '../../../lib/stages/train.js'
import { failsWith, temporaryFolder, writeLines } from '../data/support.js'
import { makeSetting, readLines, steps } from './support.js'

const short = { maxSeqLen: 48, perDeviceTrainBatchSize: 8, maxSteps: 2, device: 'cpu' }

test('an ended run is not written over by one with other options, unless that is asked for', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const options = { ...short, modelNameOrPath: model, dataPath: [data], outputDir: join(folder, 'run') }
  await sft({ ...options, learningRate: 1e-3 })
  const before = await readFile(join(folder, 'run/model/model.safetensors'))
  t.deepEqual((await readdir(join(folder, 'run'))).toSorted(), ['config.json', 'metrics.jsonl', 'model', 'samples.jsonl'], 'no lock')
  await failsWith(t, () => sft({ ...options, learningRate: 2e-3 }), '--output-dir', '--learning-rate 0.002 instead of 0.001')
  await failsWith(t, () => reward(options), '--output-dir', 'what sft made')
  t.deepEqual(await readFile(join(folder, 'run/model/model.safetensors')), before)
  t.is(steps(await readLines(join(folder, 'run'), 'metrics')).length, 2)
  await sft({ ...options, learningRate: 1e-3, threads: 1 })
  t.deepEqual(await readFile(join(folder, 'run/model/model.safetensors')), before, 'the same options give the same bits')
  await sft({ ...options, learningRate: 2e-3, resume: 'never' })
  t.notDeepEqual(await readFile(join(folder, 'run/model/model.safetensors')), before)
})

test('two runs at a time in one folder: the second is refused and the first goes on', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const options = { ...short, modelNameOrPath: model, dataPath: [data], outputDir: join(folder, 'run'), maxSteps: 6 }
  let second: Promise<unknown> | null = null
  const progress = new Progress({ write: (text: string) => (/sft +1/.test(text) && (second ??= sft({ ...options, resume: 'never' }).catch((error: unknown) => error)), true) }, false)
  await sft({ ...options, printLoss: true }, { progress })
  const error: unknown = await second
  t.true(error instanceof Error && error.message.includes(`process ${process.pid} is at work`), String(error))
  t.is(steps(await readLines(join(folder, 'run'), 'metrics')).length, 6)
})

test('a run that never began leaves no folder, and what was there stays', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const options = { ...short, modelNameOrPath: model, dataPath: [data], outputDir: join(folder, 'new', 'run') }
  await failsWith(t, () => sft({ ...options, modelNameOrPath: join(folder, 'mistyped') }), 'mistyped', 'mistyped')
  t.deepEqual(await readdir(join(folder, 'new')), [])
  const bad = await writeLines(await temporaryFolder(t), 'bad.jsonl', [{ nothing: 'known' }])
  await t.throwsAsync(sft({ ...options, dataPath: [bad] }))
  t.deepEqual(await readdir(join(folder, 'new')), [])
  await sft(options)
  await t.throwsAsync(sft({ ...options, modelNameOrPath: join(folder, 'mistyped'), resume: 'never' }))
  t.true((await readdir(join(folder, 'new/run'))).includes('model'))
})

test('train asks of every step\'s folder before the first step', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const steps = { sft: { maxSteps: 1 }, reward: { maxSteps: 1 }, ppo: { maxSteps: 1, maxPromptSeqLen: 20, maxAnswerSeqLen: 5, perDeviceGenerationBatchSize: 4, perDeviceTrainingBatchSize: 4 } }
  const given = { actorModelNameOrPath: model, dataPath: [data], maxSeqLen: 48, device: 'cpu', outputDir: join(folder, 'run') }
  await train({ ...given, ...steps })
  const written = async (): Promise<number> => (await stat(join(folder, 'run/sft/model/model.safetensors'))).mtimeMs
  const before = await written()
  const changed = { ...steps, ppo: { ...steps.ppo, klCoef: 0.3 } }
  await failsWith(t, () => train({ ...given, ...changed }), '--output-dir', '--kl-coef 0.3 instead of 0.1')
  t.is(await written(), before, 'nothing was done')
  await train({ ...given, ...steps })
  t.is(await written(), before, 'steps that are done are not done again')
  await train({ ...given, ...changed, resume: 'never' })
  t.true((await written()) > before)
})
