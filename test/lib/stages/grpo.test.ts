// GRPO and RLOO as PPO's loop without a critic, and rewards from a function in a file.
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { planPpo } from '../../../lib/stages/dryRun.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { train } from '../../../lib/stages/train.js'
import { failsWith, writeLines } from '../data/support.js'
import { column, evaluations, makeModel, makeSetting, readLines, steps, stopAt, weightsOf } from './support.js'
import type { Line, Setting } from './support.js'

/** The share of an answer's letters that are the prompt's: "say x:" wants "x". */
const shareOfX = `
export default (rows) => rows.map(({ prompt, answer }) => {
  const x = prompt[4]
  return answer.length === 0 ? 0 : [...answer].filter((c) => c === x).length / answer.length
})`

interface Files extends Setting {
  /** Writes a module into the folder. */
  module(name: string, text: string): Promise<string>
}

async function setting(t: ExecutionContext): Promise<Files> {
  const made = await makeSetting(t)
  const module = async (name: string, text: string): Promise<string> => {
    await writeFile(join(made.folder, name), text)
    return join(made.folder, name)
  }
  return { ...made, module }
}

const small = {
  maxPromptSeqLen: 20,
  maxAnswerSeqLen: 5,
  perDeviceGenerationBatchSize: 6,
  perDeviceTrainingBatchSize: 12,
  groupSize: 4,
  numWarmupSteps: 0,
  lrSchedulerType: 'constant' as const,
  actorLearningRate: 2e-3,
  threads: 2,
}

/** A model that answers with two of four letters, the right ones no more often than others. */
async function talker({ folder, model }: Setting): Promise<string> {
  const letters = 'abcd'
  const rows = Array.from({ length: 64 }, (_, i) => ({ prompt: `say ${letters[i % 4]}:`, response: letters[Math.floor(i / 4) % 4]!.repeat(2) }))
  const data = await writeLines(folder, 'talk.jsonl', rows)
  return (await sft({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 5e-3, perDeviceTrainBatchSize: 16, numTrainEpochs: 12, outputDir: join(folder, 'talker') })).model!
}

const prompts = Array.from({ length: 24 }, (_, i) => ({ prompt: `say ${'abcd'[i % 4]!}:` }))

for (const more of [{ algorithm: 'grpo', klCoef: 0.01 }, { algorithm: 'grpo', grpoScaleRewards: 'none', klCoef: 0.01, ppoEpochs: 2 }, { algorithm: 'rloo', klCoef: 0.01 }] as const)
  test(`${Object.values(more).join(' ')}: the function's reward rises, without critic and reward model; log-probs are exact`, async (t) => {
    const s = await setting(t)
    const actor = await talker(s)
    const outputDir = join(s.folder, 'run')
    const data = await writeLines(s.folder, 'prompts.jsonl', prompts)
    const result = await ppo({ ...small, ...more, actorModelNameOrPath: actor, rewardFunction: await s.module('share.mjs', shareOfX), dataPath: [data], evalDataPath: [data], numTrainEpochs: 10, checkLogprobs: true, outputDir })
    const lines = await readLines(outputDir, 'metrics')
    const trained = steps(lines)
    t.is(trained.length, 10 * 4 * 2 * ('ppoEpochs' in more ? 2 : 1), '24 prompts, 6 an experience, 4 answers to each, 12 a mini-batch')
    t.true(column(trained, 'rollout/logprob_gap_max').every((x) => x === 0), 'contract 1 in every line')
    t.true(result.after!.score > result.before!.score + 0.2, `${result.before!.score} to ${result.after!.score}`)
    t.is(result.critic, null)
    t.false((await readdir(outputDir)).includes('critic'))
    for (const name of ['loss/value_avg', 'critic/grad_norm', 'critic/lr', 'val/clipfrac_avg', 'critic/vf_explained_var']) t.true(trained.every((l) => l[name] === null), name)
    for (const name of ['loss', 'reward_std', 'frac_reward_zero_std', 'rewards/function', 'objective/kl', 'policy/entropy_avg', 'actor/grad_norm']) t.true(column(trained, name).every((x) => Number.isFinite(x)), name)
    for (const l of trained) t.is(l['rewards/function'], l['objective/scores'])
    // with k3 in the loss the term is never negative and 0 at the start; in the reward there is none
    const kl = trained.map((l) => l['actor/kl_loss'])
    if (more.algorithm === 'grpo') t.true(kl[0] === 0 && kl.every((x) => (x as number) >= 0) && (kl.at(-1) as number) > 1e-4 && trained.every((l) => l['objective/non_score_reward'] === 0))
    else t.true(kl.every((x) => x === null) && trained.some((l) => (l['objective/non_score_reward'] as number) < 0))
    t.is(column(trained, 'policy/approxkl_avg')[0], 0)
    const samples = await readLines(outputDir, 'samples')
    t.true(samples.every((sample) => Number.isFinite(sample['reward'])))
  })

test('micro-batches that cut groups change rounding only; answers to one prompt differ', async (t) => {
  const s = await setting(t)
  const actor = await talker(s)
  const rewardFunction = await s.module('share.mjs', shareOfX)
  const run = async (name: string, more: object): Promise<Line[]> => {
    await ppo({ ...small, algorithm: 'grpo', actorModelNameOrPath: actor, rewardFunction, dataPath: [await writeLines(s.folder, 'prompts.jsonl', prompts)], perDeviceTrainingBatchSize: 24, maxSteps: 3, outputDir: join(s.folder, name), ...more })
    return steps(await readLines(join(s.folder, name), 'metrics'))
  }
  const whole = await run('whole', {})
  const cut = await run('cut', { perDeviceTrainingBatchSize: 3, gradientAccumulationSteps: 8 })
  for (const [i, l] of cut.entries()) for (const name of ['loss', 'actor/kl_loss', 'objective/scores', 'reward_std']) t.true(Math.abs((l[name] as number) - (whole[i]![name] as number)) < 1e-5, `step ${i} ${name}`)
  t.true(column(whole, 'reward_std').every((x) => x > 0), 'no two seeds are alike')
  t.notDeepEqual(column(await run('unscaled', { grpoScaleRewards: 'none' }), 'loss'), column(whole, 'loss'))
  t.notDeepEqual(column(await run('rloo', { algorithm: 'rloo' }), 'loss'), column(whole, 'loss'))
  // with nothing but rewards, one formula is the other times K / (K - 1)
  const [leftOut, unscaled] = [await run('leftOut', { algorithm: 'rloo', klCoef: 0 }), await run('free', { grpoScaleRewards: 'none', klCoef: 0 })]
  t.true(Math.abs(column(unscaled, 'loss')[0]!) > 1e-3)
  t.true(Math.abs(column(leftOut, 'loss')[0]! / column(unscaled, 'loss')[0]! - 4 / 3) < 1e-9)
  const ppoLines = await run('ppo', { algorithm: 'ppo', criticModelNameOrPath: s.model, criticLearningRate: 1e-3 })
  t.true(column(ppoLines, 'loss/value_avg').every((x) => Number.isFinite(x)) && column(ppoLines, 'reward_std').every((x) => x > 0), 'PPO takes groups too')
})

test('a reward model alone, with a function, or a function alone; PPO from a model without a value head', async (t) => {
  const s = await setting(t)
  const { folder, model, data } = s
  const rm = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, perDeviceTrainBatchSize: 8, numTrainEpochs: 4, outputDir: join(folder, 'rm') })).model!
  const rewardFunction = await s.module('half.mjs', 'export default async (rows) => Float64Array.from(rows, () => 0.5)')
  const base = { ...small, actorModelNameOrPath: model, dataPath: [data], evalFraction: 0.25, maxSteps: 2, rewardClip: 0 }
  const run = async (name: string, more: object, hooks?: Parameters<typeof ppo>[1]): Promise<Line[]> => {
    await ppo({ ...base, ...more, outputDir: join(folder, name) }, hooks)
    return readLines(join(folder, name), 'metrics')
  }
  const scores = (lines: Line[]): number[] => [column(steps(lines), 'objective/scores')[0]!, column(evaluations(lines), 'eval/scores')[0]!]
  const alone = await run('model', { algorithm: 'grpo', criticModelNameOrPath: rm })
  t.true(steps(alone).every((l) => l['rewards/function'] === null))
  const both = await run('both', { algorithm: 'grpo', criticModelNameOrPath: rm, rewardFunction, rewardFrom: 'both' })
  for (const [i, score] of scores(both).entries()) t.true(Math.abs(score - scores(alone)[i]! - 0.5) < 1e-6, 'the sum')
  const { hooks, shown } = stopAt(/never/)
  const fresh = await run('fresh', { criticModelNameOrPath: model, rewardFunction }, hooks)
  t.deepEqual(scores(fresh), [0.5, 0.5])
  t.true(shown.some((text) => text.includes('fresh value head')))
  t.notDeepEqual((await weightsOf(join(folder, 'fresh', 'critic'))).length, 0)
  const { hooks: quiet, shown: said } = stopAt(/never/)
  await run('unread', { algorithm: 'rloo', criticModelNameOrPath: rm, rewardFunction }, quiet)
  t.true(said.some((text) => text.includes(`${rm} is not read`)))
})

test('what the function sees, and every way it may go wrong', async (t) => {
  const s = await setting(t)
  const { model, data, folder, module } = s
  const base = { ...small, algorithm: 'grpo' as const, actorModelNameOrPath: model, dataPath: [data], maxSteps: 1 }
  const seen = join(folder, 'seen.json')
  const spy = await module('spy.mjs', `import { writeFileSync } from 'node:fs'\nexport default (rows) => { writeFileSync(${JSON.stringify(seen)}, JSON.stringify(rows)); for (const r of rows) r.answerIds.fill(0); return rows.map(() => 1) }`)
  await ppo({ ...base, rewardFunction: spy })
  const list = JSON.parse(await readFile(seen, 'utf8')) as { prompt: string; answer: string; promptIds: number[]; answerIds: number[]; finish: string }[]
  t.is(list.length, 24)
  for (const [i, r] of list.entries()) {
    t.regex(r.prompt, /^say [a-z]!*:$/)
    t.deepEqual(r.promptIds, list[i - (i % 4)]!.promptIds, 'answers to one prompt stand together')
    t.true(r.answerIds.length >= 1 && r.answerIds.length <= 5 && ['stop', 'length'].includes(r.finish) && !r.answer.includes('</s>'))
  }
  t.true(new Set(list.map((r) => r.answerIds.join())).size > 12)

  const fails = async (file: string, ...words: string[]) => failsWith(t, () => ppo({ ...base, rewardFunction: file }), '--reward-function', ...words)
  await fails(join(folder, 'nowhere.mjs'), 'nowhere.mjs', 'no such file')
  await fails(await module('broken.mjs', 'export default ('), 'broken.mjs', 'to load')
  await fails(await module('named.mjs', 'export const reward = () => []'), 'named.mjs', 'no default export')
  await fails(await module('number.mjs', 'export default 3'), 'of type number')
  await fails(await module('throws.mjs', "export default () => { throw new Error('no such judge') }"), 'throws.mjs', 'no such judge')
  await fails(await module('rejects.mjs', "export default async () => { throw 'gone' }"), 'gone')
  await fails(await module('few.mjs', 'export default (rows) => rows.slice(1).map(() => 0)'), '24 finite numbers', 'received 23')
  await fails(await module('nan.mjs', 'export default (rows) => rows.map((_, i) => (i === 2 ? NaN : 1))'), 'NaN for row 2')
  await fails(await module('text.mjs', "export default (rows) => rows.map(() => '1')"), '1 for row 0')
  await fails(await module('none.mjs', 'export default () => undefined'), 'received undefined')
  await failsWith(t, async () => ppo({ ...base, rewardFunction: await module('never.mjs', 'export default () => new Promise(() => {})'), rewardFunctionSeconds: 0.05 }), 'within 0.05 seconds', '--reward-function-seconds')
})

test('options that exclude each other are refused before anything is read', async (t) => {
  const { model, data, module, folder } = await setting(t)
  const rewardFunction = await module('one.mjs', 'export default (rows) => rows.map(() => 1)')
  const base = { ...small, actorModelNameOrPath: model, dataPath: [data] }
  const run = (more: object) => () => ppo({ ...base, ...more })
  await failsWith(t, run({}), '--critic-model-name-or-path (the reward model)')
  await failsWith(t, run({ algorithm: 'grpo' }), '--critic-model-name-or-path (the reward model)')
  await failsWith(t, run({ rewardFunction }), '--critic-model-name-or-path (where the critic starts, any model folder)')
  await failsWith(t, run({ algorithm: 'grpo', rewardFrom: 'both', criticModelNameOrPath: model }), '--reward-from', '--reward-function')
  await failsWith(t, run({ algorithm: 'grpo', rewardFrom: 'model', criticModelNameOrPath: model, rewardFunction }), '--reward-from')
  await failsWith(t, run({ algorithm: 'grpo', groupSize: 1, rewardFunction }), '--group-size', 'at least 2')
  await failsWith(t, run({ algorithm: 'rloo', criticWarmupSteps: 3, rewardFunction }), '--critic-warmup-steps', 'rloo')
  await failsWith(t, run({ algorithm: 'grpo', klEstimator: 'k1', rewardFunction }), '--kl-estimator', 'k2 or k3')
  await failsWith(t, run({ algorithm: 'dapo', rewardFunction }), '--algorithm', 'ppo, grpo, rloo')
  await failsWith(t, run({ algorithm: 'grpo', rewardFrom: 'both', rewardFunction, criticModelNameOrPath: model }), `a reward model in ${model}`)
  const other = await makeModel(folder, 'other', { vocab_size: 270 })
  await failsWith(t, run({ rewardFunction, criticModelNameOrPath: other }), "the actor's vocabulary (262)")
  // in `train` before the first step, not after the second
  await failsWith(t, () => train({ actorModelNameOrPath: model, dataPath: [data], outputDir: join(folder, 'train'), ppo: { maxPromptSeqLen: 20, maxAnswerSeqLen: 5, rewardFunction: 'nowhere.mjs' } }), '--reward-function', 'nowhere.mjs')
  t.false((await readdir(folder)).includes('train'))
})

test('the plan holds the models there are', async (t) => {
  const { model, data, module, folder } = await setting(t)
  const scalar = await makeModel(folder, 'scalar', { architectures: ['OPTForSequenceClassification'] })
  const rewardFunction = await module('one.mjs', 'export default (rows) => rows.map(() => 1)')
  const plan = (more: object) => planPpo({ ...small, actorModelNameOrPath: model, dataPath: [data], ...more })
  const [full, grpo, bare] = [await plan({ criticModelNameOrPath: scalar }), await plan({ algorithm: 'grpo', criticModelNameOrPath: scalar }), await plan({ algorithm: 'grpo', rewardFunction })]
  t.true(full.memory.optimizer > grpo.memory.optimizer && grpo.memory.optimizer === bare.memory.optimizer, 'no critic to train')
  t.true(full.memory.parameters > grpo.memory.parameters && grpo.memory.parameters > bare.memory.parameters, 'no reward model either')
  t.is(full.memory.kvCache, bare.memory.kvCache)
  t.like(bare.options, { algorithm: 'grpo', groupSize: 4, klIn: 'loss', klEstimator: 'k3', rewardFrom: 'function' })
  t.is(bare.steps, 8 * 2, '48 prompts, 6 an experience, 24 answers, 12 a mini-batch')
  const { groupSize: _, ...rest } = small
  t.like((await planPpo({ ...rest, actorModelNameOrPath: model, dataPath: [data], algorithm: 'rloo', rewardFunction })).options, { groupSize: 8, klIn: 'reward', klEstimator: 'k1' })
})
