// Pretraining and SFT from files to a model folder that loads again.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { Progress } from '../../../lib/base/progress.js'
import { pretrain } from '../../../lib/stages/pretrain.js'
import { sft } from '../../../lib/stages/sft.js'
import { failsWith, temporaryFolder, writeLines } from '../data/support.js'
import { Oracle, modelFolder, models } from '../model/oracle.js'
import { column, evaluations, makeSetting, preferenceRows, readLines, steps, stopAt, weightsOf } from './support.js'

const small = { perDeviceTrainBatchSize: 8, learningRate: 5e-3, lrSchedulerType: 'constant' as const, maxSeqLen: 48, threads: 2 }

test('sft: learns its answers, writes a whole run, and the model loads again', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const result = await sft({ ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 6, evalInterval: 10, outputDir })
  t.is(result.model, join(outputDir, 'model'))
  const lines = await readLines(outputDir, 'metrics')
  const trained = steps(lines)
  t.deepEqual(column(trained, 'step'), Array.from({ length: 30 }, (_, i) => i + 1), '35 rows, 8 at a time, six times')
  for (const name of ['loss', 'grad_norm', 'learning_rate', 'num_tokens', 'counted_tokens', 'step_time', 'perf/throughput', 'skipped_steps'])
    t.true(column(trained, name).every((x) => Number.isFinite(x) && x >= 0), name)
  t.true(lines.every((l) => l['stage'] === 'sft' && (l['time'] as number) > 1.7e9))
  const loss = column(trained, 'loss')
  t.true(loss[0]! > 4 && loss.at(-1)! < loss[0]! / 2, `${loss[0]} to ${loss.at(-1)}`)
  t.true(column(trained, 'counted_tokens').every((n) => n === 24 || n === 9), 'three tokens of answer a row')

  const judged = evaluations(lines)
  t.deepEqual(column(judged, 'step'), [0, 10, 20, 30], 'before, during, after')
  for (const l of judged) t.true(Math.abs((l['eval/perplexity'] as number) / Math.exp(l['eval/loss'] as number) - 1) < 1e-9)
  t.deepEqual([judged[0]!['eval/loss'], judged[3]!['eval/loss']], [result.before!.loss, result.after!.loss])
  t.true(result.after!.loss < result.before!.loss / 2)

  const config = JSON.parse(await readFile(join(outputDir, 'config.json'), 'utf8')) as Record<string, unknown>
  t.like(config, { stage: 'sft', modelNameOrPath: model, seed: 1234, adamBeta2: 0.95, learningRate: 5e-3, lossOn: 'response' })
  const files = await readdir(join(outputDir, 'model'))
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) t.true(files.includes(name), name)
  const again = await sft({ ...small, modelNameOrPath: result.model!, dataPath: [data], evalFraction: 0.25, maxSteps: 1, learningRate: 0 })
  t.deepEqual(again.before, result.after, 'the saved model scores as the trained one did, bit by bit')
  t.is(again.model, null, 'without a folder nothing is kept')
})

test('sft: micro-batches, threads and a rerun give the same run; another seed another order', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = async (name: string, more: object): Promise<{ loss: number[]; weights: Float32Array }> => {
    const outputDir = join(folder, name)
    await sft({ ...small, modelNameOrPath: model, dataPath: [data], maxSteps: 8, outputDir, ...more })
    return { loss: column(steps(await readLines(outputDir, 'metrics')), 'loss'), weights: await weightsOf(join(outputDir, 'model')) }
  }
  const first = await run('a', {})
  t.deepEqual(await run('b', {}), first, 'a rerun, bit by bit')
  t.deepEqual(await run('c', { threads: 1 }), first, 'one thread, bit by bit')
  const cut = await run('d', { perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4 })
  for (const [i, loss] of cut.loss.entries()) t.true(Math.abs(loss / first.loss[i]! - 1) < 1e-4, `step ${i}`)
  t.notDeepEqual((await run('e', { seed: 5 })).loss, first.loss)
})

test('sft: --loss-on all counts the prompt too; bf16 trains', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const counted = async (name: string, more: object): Promise<number[]> => {
    await sft({ ...small, modelNameOrPath: model, dataPath: [data], outputDir: join(folder, name), ...more })
    const lines = steps(await readLines(join(folder, name), 'metrics'))
    t.true((lines.at(-1)!['loss'] as number) < (lines[0]!['loss'] as number))
    return column(lines, 'counted_tokens')
  }
  const response = await counted('response', {})
  const all = await counted('all', { lossOn: 'all', dtype: 'bf16' })
  t.true(all.every((n, i) => n > 2 * response[i]!))
})

for (const name of models)
  test(`sft: ten epochs of one pre-tokenised batch follow PyTorch's AdamW (${name})`, async (t) => {
    const folder = await temporaryFolder(t)
    const oracle = await Oracle.open(name)
    const batch = oracle.batch()
    const rows = Array.from(oracle.lengths, (_, b) => {
      const [from, to] = [batch.starts[b]!, batch.starts[b + 1]!]
      const ids = Array.from(batch.ids.slice(from, to))
      return { input_ids: ids, labels: ids.map((id, i) => (batch.counted[from + i] ? id : -100)) }
    })
    const data = await writeLines(folder, 'rows.jsonl', rows)
    await sft({
      modelNameOrPath: modelFolder(name),
      dataPath: [data],
      outputDir: join(folder, 'run'),
      perDeviceTrainBatchSize: rows.length,
      numTrainEpochs: 10,
      learningRate: 1e-3,
      weightDecay: 0.1,
      lrSchedulerType: 'constant',
    })
    const loss = column(steps(await readLines(join(folder, 'run'), 'metrics')), 'loss')
    const want = await oracle.doubles('curve_f64')
    t.is(loss.length, 10)
    for (const [i, x] of loss.entries()) t.true(Math.abs(x / want[i]! - 1) <= 2e-4, `step ${i}: ${x} against ${want[i]}`)
    t.true(Math.abs(loss[9]! / want[8]! - 1) > 2e-4, 'one step off is seen')
  })

test('pretrain: texts are packed, every token counts, the loss falls', async (t) => {
  const { folder, model } = await makeSetting(t)
  const texts = preferenceRows.map(({ prompt, chosen }) => ({ text: `${prompt}${chosen}` }))
  const data = await writeLines(folder, 'texts.jsonl', [...texts, { text: 'hello '.repeat(40) }])
  const outputDir = join(folder, 'run')
  const result = await pretrain({ modelNameOrPath: model, dataPath: [data], evalFraction: 0.2, outputDir, maxSeqLen: 40, perDeviceTrainBatchSize: 2, numTrainEpochs: 3, learningRate: 5e-3, numWarmupSteps: 2 })
  const lines = steps(await readLines(outputDir, 'metrics'))
  t.true(column(lines, 'num_tokens').every((n) => n <= 80), 'two packs of at most 40 tokens')
  t.true(column(lines, 'num_tokens').some((n) => n > 60), 'packs are well filled')
  t.true(lines.every((l) => (l['counted_tokens'] as number) > 0.85 * (l['num_tokens'] as number) - 4 && (l['counted_tokens'] as number) < (l['num_tokens'] as number)))
  t.is(column(lines, 'learning_rate')[0], 0)
  t.true(result.after!.loss < result.before!.loss - 1)
  t.true(result.after!.perplexity < 40)
  t.true((await weightsOf(result.model!)).every((x) => Number.isFinite(x)))
})

test('a signal saves what there is and throws Interrupted', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  for (const [name, stage] of Object.entries({ sft, pretrain })) {
    const outputDir = join(folder, name)
    const { hooks, shown } = stopAt(/ 1\/60 /)
    const error = await t.throwsAsync(stage({ ...small, modelNameOrPath: model, dataPath: [data], maxSteps: 60, numTrainEpochs: 60, outputDir }, hooks), { instanceOf: Interrupted }, name)
    t.is(error.saved, join(outputDir, 'model'))
    t.true(shown.some((line) => line.includes(' 1/60 ')))
    const done = steps(await readLines(outputDir, 'metrics'))
    t.is(done.length, 1, 'no step after the signal')
    t.notDeepEqual(await weightsOf(error.saved!), await weightsOf(model), 'that one step is in it')
  }
})

test('a non-finite loss ends the run with a clear error', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  await failsWith(
    t,
    () => sft({ ...small, modelNameOrPath: model, dataPath: [data], numTrainEpochs: 9, learningRate: 1e38, maxSkippedSteps: 3, outputDir }),
    '[training] expected a finite loss and gradient',
    '3 steps in a row',
  )
  const lines = await readLines(outputDir, 'metrics')
  t.true(lines.length >= 3, 'the metrics up to there are kept')
  t.is(lines.at(-1)!['skipped_steps'], 2)
  t.false((await readdir(outputDir)).includes('model'), 'no broken model is left')
})

test('what cannot be trained is refused in words', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = (more: object) => () => sft({ modelNameOrPath: model, dataPath: [data], ...more })
  await failsWith(t, run({ modelNameOrPath: join(folder, 'nowhere') }), 'nowhere', 'no such path')
  await failsWith(t, run({ dataPath: [join(folder, 'nothing.jsonl')] }), 'nothing.jsonl')
  await failsWith(t, run({ learningRate: -1 }), '--learning-rate', '-1')
  await failsWith(t, run({ maxSeqLen: 3 }), '--max-seq-len 3', 'none of 48')
  await failsWith(t, run({ dtype: 'fp8' }), '--dtype', 'fp8')
  await failsWith(t, run({ dropout: 1 }), '--dropout', 'at most 0.99')
  await failsWith(t, run({ device: 'cuda:99' }), 'device')
  await failsWith(t, run({ dataPath: [await writeLines(folder, 'prompts.jsonl', [{ prompt: 'a' }])] }), 'line 1', 'a row with an answer')
  await failsWith(t, run({ dataPath: [await writeLines(folder, 'ids.jsonl', [{ input_ids: [3, 400] }])] }), 'line 1', '400', '262')
  await failsWith(t, run({ outputDir: join(data, 'run') }), 'a folder that can be written')
})

test('sft: --print-loss writes a line for each step', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const shown: string[] = []
  const outputDir = join(folder, 'run')
  await sft({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, maxSteps: 3, printLoss: true, outputDir }, { progress: new Progress({ write: (text: string) => void shown.push(text) }) })
  const losses = column(steps(await readLines(outputDir, 'metrics')), 'loss')
  t.deepEqual(shown.filter((text) => text.startsWith('sft step')), losses.map((loss, i) => `sft step ${i + 1} of 3: loss ${loss}\n`))
})
