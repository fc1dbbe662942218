// What the reward stage learns from beside plain pairs, its losses, and several reward models: from the command's options to the folder.
import { join } from 'node:path'

import test from 'ava'

import { mean } from '../../../lib/base/statistics.js'
import { planReward } from '../../../lib/stages/dryRun.js'
import { inspectRows } from '../../../lib/stages/inspect.js'
import { reward } from '../../../lib/stages/reward.js'
import { score } from '../../../lib/stages/score.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, evaluations, makeModel, makeSetting, preferenceRows, readLines, steps } from './support.js'

const small = { perDeviceTrainBatchSize: 8, learningRate: 3e-3, lrSchedulerType: 'constant' as const, maxSeqLen: 48, threads: 2 }

/** Four answers to each prompt: two x, one x, and none twice. */
const rankings = preferenceRows.map(({ prompt, chosen }) => ({ prompt, responses: ['zz', `${chosen[0]!}z`, chosen, 'zy'], ranking: [3, 2, 1, 3] }))

test('reward: rankings are learnt, every answer is seen once, and accuracy is over the strict pairs', async (t) => {
  const { folder, model } = await makeSetting(t)
  const data = await writeLines(folder, 'rankings.jsonl', rankings)
  for (const rewardLoss of ['last', 'every-position'] as const) {
    const outputDir = join(folder, rewardLoss)
    const { before, after } = await reward({ ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 8, rewardLoss, outputDir })
    t.true(after!.accuracy > 0.85 && after!.accuracy > before!.accuracy + 0.1, `${rewardLoss}: ${before!.accuracy} to ${after!.accuracy}`)
    t.is(after!.pairs, 13 * 6)
    t.true(after!.calibration!.logLoss < before!.calibration!.logLoss && after!.chosen > after!.rejected)
    const lines = await readLines(outputDir, 'metrics')
    // a prompt of 7 to 9 tokens with its start token, four answers of three: no answer twice
    t.true(column(steps(lines), 'num_tokens')[0]! < 8 * 4 * 13)
    t.like(evaluations(lines).at(-1), { 'eval/calibration_error': after!.calibration!.error, 'eval/brier_score': after!.calibration!.brier, 'eval/log_loss': after!.calibration!.logLoss })
  }
  // four kinds of answers: one model that knows nothing may order them well by chance, six do not
  const controls = [1, 2, 3, 4, 5, 6].map(async (seed) => (await reward({ ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 3, seed, shuffleLabels: true })).after!)
  const noise = mean((await Promise.all(controls)).map(({ accuracy }) => accuracy))
  t.true(noise > 0.1 && noise < 0.65, `shuffled ranks teach nothing: ${noise}`)
})

test('reward: margins widen the difference, ties close it', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const margins = await writeLines(folder, 'margins.jsonl', preferenceRows.map((row) => ({ ...row, margin: 3 })))
  const ties = await writeLines(folder, 'ties.jsonl', preferenceRows.map((row) => ({ ...row, tie: true })))
  const apart = async (path: string, from: string, name: string): Promise<number> => {
    await reward({ ...small, modelNameOrPath: from, dataPath: [path], evalDataPath: [data], numTrainEpochs: 6, outputDir: join(folder, name) })
    const last = evaluations(await readLines(join(folder, name), 'metrics')).at(-1)!
    return (last['eval/rewards/chosen'] as number) - (last['eval/rewards/rejected'] as number)
  }
  const plain = await apart(data, model, 'plain')
  const wide = await apart(margins, model, 'wide')
  const close = await apart(ties, join(folder, 'plain', 'model'), 'close')
  t.true(wide > plain + 0.5 && Math.abs(close) < plain / 4, `${plain} ${wide} ${close}`)
  const trained = steps(await readLines(join(folder, 'close'), 'metrics'))
  t.true(trained.every((l) => l['rewards/accuracies'] === null), 'nothing is right or wrong among ties')
  t.true(column(trained, 'loss').at(-1)! < column(trained, 'loss')[0]! && column(trained, 'loss').at(-1)! >= Math.LN2)
})

test('reward: --compat deepspeed-chat trains on padding too; micro-batches add up', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const uneven = await writeLines(folder, 'uneven.jsonl', preferenceRows.map((row, i) => ({ ...row, chosen: row.chosen.repeat(1 + (i % 3)) })))
  const run = async (name: string, more: object): Promise<{ loss: number[]; tokens: number[] }> => {
    await reward({ ...small, modelNameOrPath: model, dataPath: [uneven], numTrainEpochs: 3, numPaddingAtBeginning: 0, outputDir: join(folder, name), ...more })
    const lines = steps(await readLines(join(folder, name), 'metrics'))
    return { loss: column(lines, 'loss'), tokens: column(lines, 'num_tokens') }
  }
  const padded = await run('padded', { compat: 'deepspeed-chat', padTokenId: 1 })
  const cut = await run('cut', { compat: 'deepspeed-chat', padTokenId: 1, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4 })
  for (const [i, loss] of cut.loss.entries()) t.true(Math.abs(loss - padded.loss[i]!) < 1e-4)
  const every = await run('every', { rewardLoss: 'every-position' })
  t.true(padded.tokens[0]! > every.tokens[0]!, 'padding goes through the model')
  t.true(padded.loss.at(-1)! < 0.4 && every.loss.at(-1)! < 0.4)
  t.not(padded.loss[0], every.loss[0])
  const withEnd = await run('end', { compat: 'deepspeed-chat' })
  t.not(withEnd.loss[0], padded.loss[0], 'the end token as padding is no part of an answer')
  const base = { ...small, modelNameOrPath: model, dataPath: [data], compat: 'deepspeed-chat' as const }
  await failsWith(t, () => reward({ ...base, rewardLoss: 'last' }), '--reward-loss', 'leaving out one of the two')
  await failsWith(t, () => reward({ ...base, padTokenId: 262 }), '--pad-token-id', 'below the vocabulary size 262')
  await failsWith(t, () => reward({ ...base, padTokenId: 's'.charCodeAt(0), numPaddingAtBeginning: 0 }), '[--compat]', 'before an answer', '--num-padding-at-beginning')
})

test('reward --reward-ensemble reports agreement; score --reward-ensemble gives mean and spread', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const base = { ...small, modelNameOrPath: model, dataPath: [data], evalFraction: 0.25 }
  const member = (await reward({ ...base, numTrainEpochs: 8, outputDir: join(folder, 'member') })).model!
  const outputDir = join(folder, 'run')
  const { before, after } = await reward({ ...base, numTrainEpochs: 8, seed: 1234, rewardEnsemble: [member], outputDir })
  t.true(after!.ensemble!.agreement > 0.9 && after!.ensemble!.accuracy > 0.9 && before!.ensemble!.agreement < after!.ensemble!.agreement)
  t.like(evaluations(await readLines(outputDir, 'metrics')).at(-1), { 'eval/agreement': after!.ensemble!.agreement, 'eval/ensemble_accuracy': after!.ensemble!.accuracy })
  const same = await reward({ ...base, modelNameOrPath: member, rewardEnsemble: [member, member], maxSteps: 1 })
  t.deepEqual(same.before!.ensemble, { agreement: 1, accuracy: same.before!.accuracy }, 'a model agrees with itself')
  await failsWith(t, () => reward({ ...base, evalFraction: 0, rewardEnsemble: [member] }), '--reward-ensemble', 'held-out rows', '--eval-fraction')
  await failsWith(t, () => reward({ ...base, rewardEnsemble: [model] }), '--reward-ensemble', 'without a value head')
  const other = await makeModel(folder, 'other', { vocab_size: 270, architectures: ['OPTForSequenceClassification'] })
  await failsWith(t, () => reward({ ...base, rewardEnsemble: [other] }), 'vocabulary of the model in training (262)', '270')

  const trained = join(outputDir, 'model')
  const input = await writeLines(folder, 'rows.jsonl', preferenceRows.slice(0, 9).map(({ prompt, chosen }) => ({ prompt, response: chosen })))
  const lines = async (models: string[]): Promise<{ score: number; scores?: number[]; spread?: number; values: number[] }[]> => {
    const out: string[] = []
    await score({ model: models[0]!, rewardEnsemble: models.slice(1), input, batchTokens: 40 }, undefined, (line) => out.push(line))
    return out.map((line) => JSON.parse(line) as { score: number; values: number[] })
  }
  const [a, b, both] = [await lines([trained]), await lines([member]), await lines([trained, member])]
  t.is(both.length, 9)
  for (const [i, line] of both.entries()) {
    t.deepEqual(line.scores, [a[i]!.score, b[i]!.score])
    t.true(Math.abs(line.score - (a[i]!.score + b[i]!.score) / 2) < 1e-6 && Math.abs(line.spread! - Math.abs(a[i]!.score - b[i]!.score) / 2) < 1e-6)
    t.deepEqual(line.values, a[i]!.values)
  }
  t.false('spread' in a[0]!)
  await failsWith(t, () => score({ model, rewardEnsemble: [member], input }), 'reward models only', 'as --model')
  await failsWith(t, () => score({ model: trained, rewardEnsemble: [model], input }), 'reward models only', `in ${model}`)
  await failsWith(t, () => score({ model: trained, rewardEnsemble: [other], input }), 'the vocabulary of --model (262)')
})

test('reward: --dry-run and inspect show rankings by their ranks', async (t) => {
  const { folder, model } = await makeSetting(t)
  const data = await writeLines(folder, 'mixed.jsonl', [rankings[0]!, preferenceRows[1]!, { ...preferenceRows[2]!, label: 'tie' }])
  const { preview, train } = await planReward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48 })
  t.is(train.kept, 3)
  t.deepEqual(preview.map((shown) => shown.split('\n').map((line) => line.replace(/ +\d+ tokens.*/, ''))), [['rank 1', 'rank 2', 'rank 3', 'rank 3'], ['chosen', 'rejected'], ['rank 1', 'rank 1']])
  const { rows } = await inspectRows({ model, data: [data], step: 'reward' })
  t.deepEqual(rows.map(({ parts }) => parts.length), [4, 2, 2])
})
