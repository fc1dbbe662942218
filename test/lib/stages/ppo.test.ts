// PPO from an SFT model and a reward model to an actor and a critic, with every metric in its place.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { planPpo } from '../../../lib/stages/dryRun.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, evaluations, makeModel, makeSetting, preferenceRows, readLines, steps, stopAt, weightsOf } from './support.js'
import type { Line, Setting } from './support.js'

interface Steps extends Setting {
  actor: string
  critic: string
}

/** SFT and reward model of the toy task; SFT mostly on wrong answers, so that PPO has something left to learn. */
async function trained(t: ExecutionContext): Promise<Steps> {
  const setting = await makeSetting(t)
  const { folder, model, data } = setting
  const run = { dataPath: [data], perDeviceTrainBatchSize: 8, lrSchedulerType: 'constant' as const, maxSeqLen: 48 }
  const wrong = await writeLines(folder, 'sft.jsonl', preferenceRows.map(({ prompt, chosen, rejected }, i) => ({ prompt, response: i % 3 === 0 ? chosen : rejected })))
  const { model: actor } = await sft({ ...run, dataPath: [wrong], modelNameOrPath: model, learningRate: 3e-3, maxSteps: 12, outputDir: join(folder, 'sft') })
  const { model: critic } = await reward({ ...run, modelNameOrPath: model, learningRate: 3e-3, numTrainEpochs: 6, centerRewardsCoefficient: 0.01, outputDir: join(folder, 'reward') })
  return { ...setting, actor: actor!, critic: critic! }
}

const small = {
  maxPromptSeqLen: 20,
  maxAnswerSeqLen: 6,
  perDeviceGenerationBatchSize: 12,
  perDeviceTrainingBatchSize: 6,
  numWarmupSteps: 0,
  actorLearningRate: 1e-3,
  criticLearningRate: 1e-3,
  whitenAdvantages: true,
  rewardClip: 0,
  threads: 2,
}

test('ppo: the reward rises, the recorded log-probs are exact, both models load again', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const outputDir = join(folder, 'ppo')
  const result = await ppo({ ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 6, ppoEpochs: 2, klCoef: 0.02, checkLogprobs: true, outputDir })
  const lines = await readLines(outputDir, 'metrics')
  const trainedLines = steps(lines)
  t.is(trainedLines.length, 6 * 3 * 2 * 2, '35 prompts, 12 an experience, 2 epochs of 2 mini-batches')
  const finite = [
    'loss', 'loss/policy_avg', 'loss/value_avg', 'rollout/logprob_gap_max', 'objective/scores', 'objective/score_clipfrac', 'objective/kl', 'objective/non_score_reward', 'objective/rlhf_reward',
    'completions/mean_length', 'completions/clipped_ratio', 'policy/approxkl_avg', 'policy/clipfrac_avg', 'policy/entropy_avg', 'val/ratio', 'val/ratio_max', 'val/clipfrac_avg',
    'actor/grad_norm', 'critic/grad_norm', 'actor/lr', 'critic/lr', 'timing_s/gen', 'timing_s/experience', 'timing_s/update', 'skipped_steps',
  ]
  for (const name of finite) t.true(column(trainedLines, name).every((x) => Number.isFinite(x)), name)
  t.true(column(trainedLines, 'rollout/logprob_gap_max').every((x) => x === 0), 'contract 1 in every line')
  t.is(column(trainedLines, 'objective/kl')[0], 0, 'the actor starts as its reference')
  t.true(Math.abs(column(trainedLines, 'objective/kl').at(-1)!) > 1e-3)
  t.is(column(trainedLines, 'policy/approxkl_avg')[0], 0)
  t.true(column(trainedLines, 'val/ratio_max').some((x) => x > 1.01), 'later mini-batches see a moved actor')
  for (const l of trainedLines) t.true(Math.abs((l['objective/rlhf_reward'] as number) - (l['objective/scores'] as number) + 0.02 * (l['objective/kl'] as number)) < 1e-9)
  t.true(column(trainedLines, 'completions/mean_length').every((n) => n >= 1 && n <= 6))

  const judged = evaluations(lines)
  t.deepEqual(column(judged, 'step'), [0, trainedLines.length])
  t.deepEqual([judged[0]!['eval/scores'], judged[1]!['eval/scores'], judged[1]!['eval/kl']], [result.before!.score, result.after!.score, result.after!.kl])
  t.is(result.before!.kl, 0)
  t.true(result.after!.score > result.before!.score + 0.2, `${result.before!.score} to ${result.after!.score}`)

  const samples = await readLines(outputDir, 'samples')
  t.true(samples.length >= 6)
  for (const s of samples) {
    t.regex(s['prompt'] as string, /^say [a-z]!*:$/)
    t.true(typeof s['answer'] === 'string' && Number.isFinite(s['reward']) && Number.isFinite(s['kl']))
    t.true(s['finish'] === 'stop' || s['finish'] === 'length')
  }
  t.like(JSON.parse(await readFile(join(outputDir, 'config.json'), 'utf8')) as object, { stage: 'ppo', klCoef: 0.02, gamma: 1, gaeLambda: 0.95, clipRange: 0.2 })
  t.deepEqual([result.actor, result.critic], [join(outputDir, 'actor'), join(outputDir, 'critic')])
  t.notDeepEqual(await weightsOf(result.actor!), await weightsOf(actor))
  t.notDeepEqual(await weightsOf(result.critic!), await weightsOf(critic))
  t.true((await readdir(result.actor!)).includes('tokenizer.json'))

  const rerun = join(folder, 'rerun')
  await ppo({ ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], evalFraction: 0.25, numTrainEpochs: 6, ppoEpochs: 2, klCoef: 0.02, maxSteps: 6, kvPageSize: 3, threads: 1, lrSchedulerType: 'constant', outputDir: rerun })
  const [a, b] = [trainedLines.slice(0, 2), steps(await readLines(rerun, 'metrics')).slice(0, 2)]
  for (const name of ['loss', 'loss/value_avg', 'objective/scores', 'completions/mean_length', 'policy/entropy_avg']) t.is(b[0]![name], a[0]![name], `${name}: page size and threads change nothing`)
})

test('ppo: critic warm-up leaves the actor alone; micro-batches, stop texts, several generation batches', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const base = { ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data] }
  const warm = join(folder, 'warm')
  await ppo({ ...base, criticWarmupSteps: 100, maxSteps: 4, outputDir: warm })
  const lines = steps(await readLines(warm, 'metrics'))
  t.is(lines.length, 4)
  t.true(lines.every((l) => l['loss'] === null && l['actor/lr'] === null && (l['critic/lr'] as number) > 0))
  t.deepEqual(await weightsOf(join(warm, 'actor')), await weightsOf(actor))
  t.notDeepEqual(await weightsOf(join(warm, 'critic')), await weightsOf(critic))

  const losses = async (name: string, more: object): Promise<number[]> => {
    await ppo({ ...base, maxSteps: 1, outputDir: join(folder, name), ...more })
    return column(steps(await readLines(join(folder, name), 'metrics')), 'loss/value_avg')
  }
  const [one] = await losses('one', { perDeviceTrainingBatchSize: 12 })
  const [four] = await losses('four', { perDeviceTrainingBatchSize: 3, gradientAccumulationSteps: 4 })
  t.true(Math.abs(one! - four!) < 1e-5 * Math.max(1, one!), `${one} and ${four}`)

  const stopped = join(folder, 'stopped')
  await ppo({ ...base, perDeviceGenerationBatchSize: 5, generationBatches: 2, stop: ['a', 'b', 'c'], maxAnswerSeqLen: 12, maxSteps: 3, checkLogprobs: true, outputDir: stopped })
  const stops = steps(await readLines(stopped, 'metrics'))
  t.true(stops.every((l) => l['rollout/logprob_gap_max'] === 0))
  for (const s of await readLines(stopped, 'samples')) {
    const answer = s['answer'] as string
    if (s['finish'] === 'stop' && /[abc]/.test(answer)) t.regex(answer, /^[^abc]*[abc]$/, 'ends right behind the stop text')
  }
})

test('ppo: a signal saves both models and throws', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const outputDir = join(folder, 'run')
  const { hooks } = stopAt(/ppo \d+\//)
  const error = await t.throwsAsync(ppo({ ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], numTrainEpochs: 50, outputDir }, hooks), { instanceOf: Interrupted })
  t.is(error.saved, join(outputDir, 'actor'))
  t.is(steps(await readLines(outputDir, 'metrics')).length, 2, 'the first experience and no more')
  t.true((await weightsOf(join(outputDir, 'actor'))).length > 0 && (await readdir(outputDir)).includes('critic'))
})

test('ppo: what cannot work is refused before training', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const scalar = await makeModel(folder, 'scalar', { architectures: ['OPTForSequenceClassification'] })
  const base = { ...small, actorModelNameOrPath: model, criticModelNameOrPath: scalar, dataPath: [data] }
  const run = (more: object) => () => ppo({ ...base, ...more })
  await failsWith(t, run({ topK: 5 }), '--top-k 5', '--allow-cut-sampling')
  await failsWith(t, run({ topP: 0.9 }), '--top-p 0.9')
  await failsWith(t, run({ maxPromptSeqLen: 40, maxAnswerSeqLen: 9 }), 'at most 48 tokens together', '40 + 9')
  const other = await makeModel(folder, 'other', { vocab_size: 270, architectures: ['OPTForSequenceClassification'] })
  await failsWith(t, run({ criticModelNameOrPath: other }), "the actor's vocabulary (262)", '270')
  await failsWith(t, run({ criticModelNameOrPath: model }), `a reward model in ${model}`, 'without a value head', 'may be swapped')
  await failsWith(t, run({ actorModelNameOrPath: scalar, criticModelNameOrPath: model }), `a language model in ${scalar}`, 'may be swapped')
  await failsWith(t, run({ maxPromptSeqLen: 1 }), '--max-prompt-seq-len 1', 'none of 48')
  await failsWith(t, run({ emaDecay: 2 }), '--ema-decay')
  await failsWith(t, run({ temperature: 0 }), '--temperature')
  await t.notThrowsAsync(run({ topK: 5, allowCutSampling: true, maxSteps: 1 }))
})

test('ppo: --enable-ema saves a third model between start and end; --kl-target moves the penalty; --stop-kl ends updates early', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const base = { ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], numTrainEpochs: 2, ppoEpochs: 3 }
  const run = async (name: string, more: object): Promise<Line[]> => {
    await ppo({ ...base, ...more, outputDir: join(folder, name) })
    return steps(await readLines(join(folder, name), 'metrics'))
  }
  const plain = await run('plain', {})
  const averaged = await run('averaged', { enableEma: true, emaDecay: 0.9, klTarget: 0.001, klHorizon: 100 })
  t.false((await readdir(join(folder, 'plain'))).includes('actor-ema'))
  const [start, end, mean] = await Promise.all([actor, join(folder, 'averaged', 'actor'), join(folder, 'averaged', 'actor-ema')].map(weightsOf))
  const distance = (a: Float32Array, b: Float32Array): number => Math.hypot(...a.map((x, i) => x - b[i]!))
  t.true(distance(mean!, start!) > 0 && distance(mean!, end!) > 0)
  t.true(distance(mean!, end!) < distance(start!, end!) && distance(mean!, start!) < distance(start!, end!), 'it lies between')
  const coefs = column(averaged, 'objective/kl_coef')
  t.is(coefs[0], 0.1)
  t.is(new Set(coefs).size, averaged.length / 6, 'one for each experience')
  t.deepEqual(new Set(column(plain, 'objective/kl_coef')), new Set([0.1]))
  const stopped = await run('stopped', { stopKl: 1e-6 })
  t.true(stopped.length < plain.length / 2, `${stopped.length} of ${plain.length} updates`)
})

test('ppo: --compat deepspeed-chat leaves out padding and answers of one token, and learns', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const base = { ...small, whitenAdvantages: false, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], lrSchedulerType: 'constant' as const, checkLogprobs: true }
  const run = async (name: string, more: object): Promise<{ lines: Line[]; after: number }> => {
    const { after } = await ppo({ ...base, numTrainEpochs: 6, ppoEpochs: 2, klCoef: 0.02, evalFraction: 0.25, outputDir: join(folder, name), ...more })
    return { lines: steps(await readLines(join(folder, name), 'metrics')), after: after!.score }
  }
  const plain = await run('plain', {})
  const ended = await run('ended', { compat: 'deepspeed-chat' })
  const other = await run('other', { compat: 'deepspeed-chat', padTokenId: 0 })
  for (const { lines } of [plain, ended, other]) t.true(lines.length >= 12 && lines.every((l) => l['rollout/logprob_gap_max'] === 0))
  t.true(plain.lines.every((l) => l['completions/dropped'] === 0))
  t.true(ended.lines.every((l) => (l['completions/dropped'] as number) <= 12))
  const first = (name: string): unknown[] => [plain, ended, other].map(({ lines }) => lines[0]![name])
  t.is(new Set(first('loss/value_avg')).size, 3, 'three ways to place the score')
  t.true(ended.after > 0 && other.after > 0, `${plain.after} ${ended.after} ${other.after}`)
  await failsWith(t, () => ppo({ ...base, compat: 'deepspeed-chat', padTokenId: 262 }), '--pad-token-id', 'below the vocabulary size 262')
  // a limit of one token: every answer is dropped, and no step is taken
  const none = await ppo({ ...base, compat: 'deepspeed-chat', maxAnswerSeqLen: 1, klTarget: 1, outputDir: join(folder, 'none') })
  t.is(steps(await readLines(join(folder, 'none'), 'metrics')).length, 0)
  t.deepEqual(await weightsOf(none.actor!), await weightsOf(actor))
})

test('ppo: --reward-ensemble pays the mean less a share of the spread', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const second = (await reward({ modelNameOrPath: actor, dataPath: [data], perDeviceTrainBatchSize: 8, maxSeqLen: 48, learningRate: 2e-3, numTrainEpochs: 3, seed: 7, outputDir: join(folder, 'second') })).model!
  const base = { ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], maxSteps: 1 }
  const first = async (name: string, more: object): Promise<Line> => {
    await ppo({ ...base, outputDir: join(folder, name), ...more })
    return steps(await readLines(join(folder, name), 'metrics'))[0]!
  }
  const number = (line: Line, name: string): number => line[name] as number
  const [alone, swapped] = [await first('alone', {}), await first('swapped', { criticModelNameOrPath: second })]
  t.is(alone['objective/score_spread'], 0)
  const both = await first('both', { rewardEnsemble: [second], ensembleSpreadCoef: 0 })
  t.true(Math.abs(number(both, 'objective/scores') - (number(alone, 'objective/scores') + number(swapped, 'objective/scores')) / 2) < 1e-6)
  const cautious = await first('cautious', { rewardEnsemble: [second] })
  t.true(number(cautious, 'objective/score_spread') > 0)
  t.true(Math.abs(number(cautious, 'objective/scores') - (number(both, 'objective/scores') - number(both, 'objective/score_spread'))) < 1e-6)
  t.is(cautious['loss/policy_avg'] === both['loss/policy_avg'], false)
  const wrong = await makeModel(folder, 'wrong', { vocab_size: 270, architectures: ['OPTForSequenceClassification'] })
  await failsWith(t, () => ppo({ ...base, rewardEnsemble: [wrong] }), "the actor's vocabulary (262)", '270 in')
  await failsWith(t, () => ppo({ ...base, rewardEnsemble: [second, actor] }), `a reward model in ${actor}`, 'without a value head')
  const plans = await Promise.all([[], [second]].map((rewardEnsemble) => planPpo({ ...base, rewardEnsemble })))
  t.true(plans[1]!.memory.parameters > plans[0]!.memory.parameters)
})

test('ppo: normalised scores and cut answers that teach nothing', async (t) => {
  const { folder, actor, critic, data } = await trained(t)
  const outputDir = join(folder, 'run')
  await ppo({ ...small, maxAnswerSeqLen: 3, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], maxSteps: 6, normalizeRewards: true, maskTruncated: true, outputDir })
  const lines = steps(await readLines(outputDir, 'metrics'))
  t.true(column(lines, 'objective/score_deviation').every((x) => x > 0))
  for (const line of lines) t.is(line['completions/dropped'], Math.round((line['completions/clipped_ratio'] as number) * 12), 'those cut by their limit')
  t.true(column(lines, 'completions/dropped').some((n) => n > 0))
  await failsWith(t, () => ppo({ ...small, actorModelNameOrPath: actor, criticModelNameOrPath: critic, dataPath: [data], normalizeRewards: true, compat: 'deepspeed-chat' }), '[--normalize-rewards]')
})
