// DPO from pairs to a folder that loads again: what it learns, and that a reference asked beforehand gives the same bits.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { Progress } from '../../../lib/base/progress.js'
import { Run } from '../../../lib/base/run.js'
import { wilsonInterval } from '../../../lib/base/statistics.js'
import { packPairs } from '../../../lib/data/packing.js'
import { pairRowCodec, rowList } from '../../../lib/data/rowList.js'
import { dpo } from '../../../lib/stages/dpo.js'
import { DpoReference } from '../../../lib/stages/dpoReference.js'
import { planDpo } from '../../../lib/stages/dryRun.js'
import { sft } from '../../../lib/stages/sft.js'
import { silent } from '../../../lib/stages/shared.js'
import { createDevice } from '../../../lib/tensor/device.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, evaluations, makeModel, makeSetting, readLines, steps, stopAt, weightsOf } from './support.js'
import type { Line } from './support.js'

const small = { perDeviceTrainBatchSize: 8, learningRate: 2e-3, lrSchedulerType: 'constant' as const, maxSeqLen: 48, threads: 2 }
const clocks = /^(time|step_time|perf\/throughput)$/
const timeless = (lines: readonly Line[]): Line[] => lines.map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !clocks.test(key))))

test('dpo: accuracy on held-out pairs rises from a tie; metrics, interval and folder', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const result = await dpo({ ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 4, evalInterval: 10, outputDir })
  const lines = await readLines(outputDir, 'metrics')
  const trained = steps(lines)
  t.is(trained.length, 20)
  for (const name of ['loss', 'rewards/accuracies', 'rewards/chosen', 'rewards/rejected', 'rewards/margins', 'logps/chosen', 'logps/rejected', 'grad_norm', 'learning_rate', 'num_tokens', 'skipped_steps'])
    t.true(column(trained, name).every((x) => Number.isFinite(x)), name)
  // one engine: the policy that has not moved is its reference, bit by bit
  t.like(trained[0], { 'rewards/chosen': 0, 'rewards/rejected': 0, 'rewards/accuracies': 0.5 })
  t.true(Math.abs(column(trained, 'loss')[0]! - Math.LN2) < 1e-12)
  t.true(column(trained, 'loss').at(-1)! < 0.45, `${column(trained, 'loss').at(-1)}`)
  for (const l of trained) t.true(Math.abs((l['rewards/margins'] as number) - ((l['rewards/chosen'] as number) - (l['rewards/rejected'] as number))) < 1e-9)

  const { before, after } = result
  t.like(before, { accuracy: 0.5, chosen: 0, rejected: 0, pairs: 13 })
  t.true(after!.accuracy > 0.9 && after!.chosen > after!.rejected && after!.loss < before!.loss)
  t.deepEqual(after!.interval, wilsonInterval(after!.accuracy * 13, 13))
  // rewards are beta times what the answers gained, so the two kinds of numbers check each other
  t.true(Math.abs(after!.chosen - 0.1 * (after!.chosenLogprob - before!.chosenLogprob)) < 1e-6)
  t.true(Math.abs(after!.rejected - 0.1 * (after!.rejectedLogprob - before!.rejectedLogprob)) < 1e-6)
  const judged = evaluations(lines)
  t.deepEqual(column(judged, 'step'), [0, 10, 20])
  t.like(judged[2], { 'eval/accuracy': after!.accuracy, 'eval/loss': after!.loss, 'eval/rewards/chosen': after!.chosen, 'eval/logps/rejected': after!.rejectedLogprob, 'eval/accuracy_low': after!.interval[0] })

  const config = JSON.parse(await readFile(join(result.model!, 'config.json'), 'utf8')) as Record<string, unknown>
  t.deepEqual(config['architectures'], ['OPTForCausalLM'])
  const again = await dpo({ ...small, modelNameOrPath: result.model!, referenceModelNameOrPath: model, dataPath: [data], evalFraction: 0.25, maxSteps: 1, learningRate: 0 })
  t.deepEqual(again.before, after, 'the saved policy against the old reference')
})

test('dpo: a precomputed reference gives the same bits and leaves; a run cut before its first step has lost nothing', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const reference = (await sft({ ...small, modelNameOrPath: model, dataPath: [data], maxSteps: 3, outputDir: join(folder, 'sft') })).model!
  const run = async (name: string, more: object) => {
    const outputDir = join(folder, name)
    await dpo({ ...small, modelNameOrPath: model, referenceModelNameOrPath: reference, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 2, evalInterval: 4, outputDir, ...more })
    return { lines: timeless(await readLines(outputDir, 'metrics')), weights: await weightsOf(join(outputDir, 'model')) }
  }
  const live = await run('live', {})
  t.deepEqual(await run('before', { precomputeReference: true }), live)
  t.deepEqual(await run('batches', { precomputeReference: true, perDeviceEvalBatchSize: 3, threads: 1 }).then((r) => r.weights), live.weights, 'however it is asked')
  t.notDeepEqual((await run('start', { referenceModelNameOrPath: null })).weights, live.weights, 'another reference, another result')
  const outputDir = join(folder, 'cut')
  const options = { ...small, modelNameOrPath: model, referenceModelNameOrPath: reference, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 2, evalInterval: 4, precomputeReference: true, outputDir }
  const error = await t.throwsAsync(dpo(options, { progress: new Progress({ write: () => undefined }), signal: AbortSignal.abort() }), { instanceOf: Interrupted })
  t.is(error.saved, null)
  await dpo(options)
  t.deepEqual(await weightsOf(join(outputDir, 'model')), live.weights)
  // the reference is not read again: a run that goes on does not need it
  const stopped = join(folder, 'stopped')
  await t.throwsAsync(dpo({ ...options, outputDir: stopped }, { progress: new Progress({ write: () => undefined }), stopAfter: 3 }), { instanceOf: Interrupted })
  const shown: string[] = []
  await dpo({ ...options, outputDir: stopped }, { progress: new Progress({ write: (text: string) => shown.push(text) }) })
  t.false(shown.some((text) => text.includes('reference of')))
  t.deepEqual(await weightsOf(join(stopped, 'model')), live.weights)
  // --resume changed with another reference: its numbers are asked for anew
  await t.throwsAsync(dpo({ ...options, outputDir: stopped, resume: 'never' }, { progress: new Progress({ write: () => undefined }), stopAfter: 3 }), { instanceOf: Interrupted })
  await dpo({ ...options, outputDir: stopped, resume: 'changed', referenceModelNameOrPath: model }, { progress: new Progress({ write: (text: string) => shown.push(text) }) })
  t.true(shown.some((text) => text.includes('reference of training pairs')))
})

test('dpo: micro-batches add up; each form of the loss learns', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = async (name: string, more: object): Promise<Line[]> => {
    await dpo({ ...small, modelNameOrPath: model, dataPath: [data], evalDataPath: [data], maxSteps: 12, numTrainEpochs: 3, outputDir: join(folder, name), ...more })
    return readLines(join(folder, name), 'metrics')
  }
  const whole = steps(await run('whole', {}))
  const cut = steps(await run('cut', { perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4 }))
  for (const [i, l] of cut.entries()) t.true(Math.abs((l['loss'] as number) - (whole[i]!['loss'] as number)) < 1e-4, `step ${i}`)
  const forms = { hinge: { lossType: 'hinge' }, ipo: { lossType: 'ipo', lengthNormalize: true }, smoothed: { labelSmoothing: 0.1 }, free: { referenceFree: true } }
  for (const [name, more] of Object.entries(forms)) {
    const lines = await run(name, more)
    const [first, last] = [evaluations(lines)[0]!, evaluations(lines).at(-1)!]
    t.true((last['eval/accuracy'] as number) > 0.9 && (last['eval/loss'] as number) < (first['eval/loss'] as number), name)
    t.notDeepEqual(column(steps(lines), 'loss'), column(whole, 'loss'))
  }
  const free = evaluations(await readLines(join(folder, 'free'), 'metrics'))[0]!
  t.true(Math.abs((free['eval/rewards/chosen'] as number) - 0.1 * (free['eval/logps/chosen'] as number)) < 1e-9, 'without a reference the reward is beta times the log-prob')
  const ipo = evaluations(await readLines(join(folder, 'ipo'), 'metrics'))[0]!
  t.is(ipo['eval/loss'], 25, '(1 / (2 beta))^2 where nothing has moved')
  t.true((ipo['eval/logps/chosen'] as number) > (free['eval/logps/chosen'] as number) / 2, 'per token: three tokens an answer')
})

test('dpo: a signal saves and throws; what cannot work is refused before training', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const error = await t.throwsAsync(dpo({ ...small, modelNameOrPath: model, dataPath: [data], numTrainEpochs: 20, outputDir }, stopAt(/ 1\/120 /).hooks), { instanceOf: Interrupted })
  t.is(error.saved, join(outputDir, 'model'))
  const texts = await writeLines(folder, 'texts.jsonl', [{ text: 'a' }])
  const run = (more: object) => () => dpo({ ...small, modelNameOrPath: model, dataPath: [data], ...more })
  await failsWith(t, run({ dataPath: [texts] }), 'line 1', 'two answers', '{text}')
  await failsWith(t, run({ lossType: 'ipo', labelSmoothing: 0.1 }), '--label-smoothing', 'ipo')
  await failsWith(t, run({ labelSmoothing: 0.5 }), '--label-smoothing', 'less than 0.5')
  await failsWith(t, run({ beta: 0 }), '--beta')
  await failsWith(t, run({ lossType: 'kto' }), '--loss-type', 'sigmoid, hinge, ipo')
  await failsWith(t, run({ referenceFree: true, precomputeReference: true }), '--reference-free', '--precompute-reference')
  await failsWith(t, run({ referenceFree: true, referenceModelNameOrPath: model }), '--reference-free', '--reference-model-name-or-path')
  const other = await makeModel(folder, 'other', { vocab_size: 270 })
  await failsWith(t, run({ referenceModelNameOrPath: other }), "the model's vocabulary (262)", '270')
  const short = await makeModel(folder, 'short', { max_position_embeddings: 30 })
  await failsWith(t, run({ referenceModelNameOrPath: short }), '48 positions', '--max-seq-len 30')
  await failsWith(t, run({ referenceModelNameOrPath: join(folder, 'nowhere') }), 'nowhere')
  const scalar = await makeModel(folder, 'scalar', { architectures: ['OPTForSequenceClassification'] })
  await failsWith(t, run({ modelNameOrPath: scalar }), `a language model in ${scalar}`)
})

test('dpo: a precomputed reference is asked once and its memory given back', async (t) => {
  const { model } = await makeSetting(t)
  const run = await Run.open('dpo', null, {}, silent)
  using device = createDevice({ threads: 1 })
  const row = (...answer: number[]) => ({ ids: Int32Array.of(5, 6, ...answer), counted: Uint8Array.of(0, 0, ...answer.map(() => 1)) })
  const pairs = [{ chosen: row(7), rejected: row(8, 9), promptLength: 2 }, { chosen: row(9, 9, 9), rejected: row(3), promptLength: 2 }, { chosen: row(4), rejected: row(7, 7), promptLength: 2 }]
  const rows = { train: rowList(pairs, pairRowCodec), held: rowList([], pairRowCodec) }
  const options = { device: 'cpu', dtype: 'fp32', threads: 1, seed: 1, modelNameOrPath: model, referenceModelNameOrPath: null, referenceFree: false, maxSeqLen: 48, perDeviceEvalBatchSize: 2 }
  using live = new DpoReference(run, device, rows, { ...options, precomputeReference: false })
  await live.begin(null)
  await device.sync()
  const { parameters } = device.stats().bytes
  t.true(parameters > 0)
  using before = new DpoReference(run, device, rows, { ...options, precomputeReference: true })
  await before.begin(null)
  await device.sync()
  t.is(device.stats().bytes.parameters, parameters, 'only the live one is left')
  for (const places of [[0, 1, 2], [2, 0], [1]]) {
    const batch = packPairs(places.map((i) => pairs[i]!))
    t.deepEqual(await before.logprobs('train', places, batch), await live.logprobs('train', places, batch))
  }
  t.deepEqual(Object.keys(before.parts()), ['reference'])
  t.deepEqual(live.parts(), {})
})

test('dpo: the plan counts the reference where it stays in memory', async (t) => {
  const { model, data } = await makeSetting(t)
  const plan = (more: object) => planDpo({ ...small, modelNameOrPath: model, dataPath: [data], ...more })
  const [live, before, free] = [await plan({}), await plan({ precomputeReference: true }), await plan({ referenceFree: true })]
  t.is(live.memory.parameters, 2 * before.memory.parameters)
  t.deepEqual(before.memory, free.memory)
  t.like(live, { stage: 'dpo', steps: 6 })
  t.is(live.preview.length, 3)
  await failsWith(t, () => plan({ referenceFree: true, precomputeReference: true }), '--reference-free')
})
