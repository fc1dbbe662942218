// samples.jsonl of PPO: the numbers of each token fit each other by the formulas of docs/metrics.md. --print-answers,
// --enable-test-mode, --eval-interval.
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Progress } from '../../../lib/base/progress.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { column, evaluations, makeSetting, readLines, steps } from './support.js'

async function setting(t: ExecutionContext) {
  const { folder, model, data } = await makeSetting(t)
  const critic = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, maxSteps: 4, perDeviceTrainBatchSize: 8, outputDir: join(folder, 'reward') })).model!
  const options = { actorModelNameOrPath: model, criticModelNameOrPath: critic, dataPath: [data], maxPromptSeqLen: 20, maxAnswerSeqLen: 6, perDeviceGenerationBatchSize: 8, perDeviceTrainingBatchSize: 8, numWarmupSteps: 0, actorLearningRate: 2e-3, criticLearningRate: 2e-3 }
  return { folder, options }
}

interface Sample {
  step: number
  answer: string
  reward: number
  kl: number
  finish: string
  output_ids: number[]
  tokens: string[]
  logprobs: number[]
  kls: number[]
  rewards: number[]
  values: number[]
  advantages: number[]
  returns: number[]
}

test('tokens, log-probs, KL, rewards, values, advantages and returns are aligned and consistent', async (t) => {
  const { folder, options } = await setting(t)
  const outputDir = join(folder, 'ppo')
  await ppo({ ...options, klCoef: 0.3, rewardClip: 0.05, missingEosPenalty: 0.25, gamma: 0.9, gaeLambda: 0.8, sampleRows: 3, maxSteps: 4, outputDir })
  const samples = (await readLines(outputDir, 'samples')) as unknown as Sample[]
  t.deepEqual(samples.map((s) => s.step), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
  const close = (a: number, b: number, what: string): void => void t.true(Math.abs(a - b) < 1e-5, `${what}: ${a} and ${b}`)
  for (const s of samples) {
    const n = s.output_ids.length
    for (const list of [s.tokens, s.logprobs, s.kls, s.rewards, s.values, s.advantages, s.returns]) t.is(list.length, n)
    // an incomplete UTF-8 sequence is shown token by token where the text shows it once
    if (s.finish === 'length' && !s.answer.includes('\ufffd')) t.is(s.tokens.join(''), s.answer)
    t.true(s.logprobs.every((x) => x < 0))
    close(s.kls.reduce((a, b) => a + b), s.kl, 'the KL is the sum')
    for (let i = 0; i < n; i++) {
      const score = i < n - 1 ? 0 : Math.min(0.05, Math.max(-0.05, s.reward)) - (s.finish === 'length' ? 0.25 : 0)
      close(s.rewards[i]!, score - 0.3 * s.kls[i]!, 'reward')
      // advantages forwards from their definition, not by the recursion: sum over k of (gamma lambda)^k delta
      let advantage = 0
      for (let k = i; k < n; k++) advantage += (0.9 * 0.8) ** (k - i) * (s.rewards[k]! + 0.9 * (s.values[k + 1] ?? 0) - s.values[k]!)
      close(s.advantages[i]!, advantage, 'advantage')
      close(s.returns[i]!, s.advantages[i]! + s.values[i]!, 'return')
    }
  }
  t.true(samples.some((s) => s.kls.some((x) => Math.abs(x) > 1e-3)))
  await ppo({ ...options, sampleRows: 0, maxSteps: 2, outputDir: join(folder, 'none') })
  t.deepEqual(await readLines(join(folder, 'none'), 'samples'), [])
})

test('--print-answers shows the same rows every so many experiences', async (t) => {
  const { folder, options } = await setting(t)
  const shown: string[] = []
  const outputDir = join(folder, 'ppo')
  await ppo({ ...options, printAnswers: true, printAnswersInterval: 2, sampleRows: 1, maxSteps: 5, outputDir }, { progress: new Progress({ write: (text: string) => void shown.push(text) }) })
  const samples = await readLines(outputDir, 'samples')
  const printed = shown.filter((text) => text.startsWith('--- step'))
  t.deepEqual(printed.map((text) => /^--- step (\d+)/.exec(text)![1]), ['0', '2', '4'])
  // what would move the cursor or colour the terminal is written out
  const visible = String(samples[2]!['answer']).replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  t.true(printed[1]!.endsWith(`\n${samples[2]!['prompt']}\n>>> ${visible}\n`), printed[1])
  t.false(/[\0-\x08\x0b-\x1f]/.test(printed.join('')))
})

test('--enable-test-mode ends after so many steps with the rates of the whole run; --eval-interval looks in between', async (t) => {
  const { folder, options } = await setting(t)
  const run = async (name: string, more: object) => {
    const outputDir = join(folder, name)
    await ppo({ ...options, lrSchedulerType: 'linear', evalFraction: 0.2, ...more, outputDir })
    return readLines(outputDir, 'metrics')
  }
  const whole = await run('whole', { evalInterval: 2 })
  const all = steps(whole)
  t.deepEqual(column(evaluations(whole), 'step'), [0, 2, 4, all.length], `${all.length} steps`)
  t.is(all.length, 5)
  const tested = await run('tested', { enableTestMode: true, testStopStep: 3 })
  t.deepEqual(column(steps(tested), 'actor/lr'), column(all, 'actor/lr').slice(0, 3))
  t.deepEqual(column(steps(tested), 'loss'), column(all, 'loss').slice(0, 3), 'an evaluation in between changes nothing')
  t.deepEqual(column(evaluations(tested), 'step'), [0, 3])
  t.is(steps(await run('off', { testStopStep: 3 })).length, 5)
  t.is(steps(await run('zero', { enableTestMode: true })).length, 5)
})
