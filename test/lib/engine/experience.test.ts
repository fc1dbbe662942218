// From rollouts to experience: each number is the one that the formulas give for that row alone.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { logprobGap, makeRollouts, packRollouts, repaid, scoreRollouts, whitened } from '../../../lib/engine/experience.js'
import type { ShapingOptions } from '../../../lib/engine/experience.js'
import { lastTokens, scoreLogprobs, scoreValues } from '../../../lib/engine/logprobs.js'
import { createDevice } from '../device.js'
import { freshModel, generation, randomPrompts } from '../contracts/support.js'

const shaping: ShapingOptions = { klCoef: 0.3, klEstimator: 'k1', rewardClip: 0.2, gamma: 0.9, gaeLambda: 0.8, whitenAdvantages: false }

test('rollouts are packed so that the answers count', (t) => {
  const ints = (...x: number[]) => Int32Array.from(x)
  const batch = packRollouts([
    { prompt: ints(5, 6), answer: ints(7, 8, 9), logprobs: new Float32Array(3), finish: 'stop' },
    { prompt: ints(4), answer: ints(3), logprobs: new Float32Array(1), finish: 'length' },
  ])
  t.deepEqual(Array.from(batch.ids), [5, 6, 7, 8, 9, 4, 3])
  t.deepEqual(Array.from(batch.starts), [0, 5, 7])
  t.deepEqual(Array.from(batch.countedPositions), [1, 2, 3, 5], 'the place before each answer token')
  t.deepEqual(Array.from(lastTokens(batch)), [4, 6])
})

test('reference log-probs, values, score, KL, rewards, advantages and returns of each rollout', async (t) => {
  using device = createDevice({ threads: 2 })
  using actor = await freshModel(device, 'tiny')
  using reference = await freshModel(device, 'tiny', { seed: 2 })
  using critic = await freshModel(device, 'tiny', { head: 'scalar', seed: 3 })
  using reward = await freshModel(device, 'tiny', { head: 'scalar', seed: 4 })
  const rollouts = await makeRollouts(actor.decoder, randomPrompts(7, 6, 24), generation(24, { temperature: 0.8 }))
  const models = { reference: reference.decoder, critic: critic.decoder, reward: reward.decoder }
  const sizes = (await scoreRollouts(models, rollouts, 0.8, shaping)).map((e) => Math.abs(e.score)).toSorted((a, b) => a - b)
  const rewardClip = sizes[3]! // about half of them are beyond it
  const experience = await scoreRollouts(models, rollouts, 0.8, { ...shaping, rewardClip })
  t.is(experience.length, 7)
  let clipped = 0
  for (const [i, e] of experience.entries()) {
    const n = e.answer.length
    t.is(e.answer, rollouts[i]!.answer)
    const row = packRows([{ ids: Int32Array.from([...e.prompt, ...e.answer]), counted: Uint8Array.from([...e.prompt.map(() => 0), ...e.answer.map(() => 1)]) }])
    t.deepEqual(e.refLogprobs, await scoreLogprobs(reference.decoder, row, 0.8))
    t.notDeepEqual(e.refLogprobs, await scoreLogprobs(reference.decoder, row, 1), 'at the temperature of the rollouts')
    const all = Int32Array.from(row.ids.keys())
    const values = await scoreValues(critic.decoder, row, all)
    t.deepEqual(e.values, values.slice(e.prompt.length - 1, -1), 'values stand before the token they judge')
    t.is(e.score, (await scoreValues(reward.decoder, row, all)).at(-1)!)
    const kl = Array.from(e.logprobs, (lp, k) => lp - e.refLogprobs[k]!)
    t.true(Math.abs(e.kl - kl.reduce((s, x) => s + x, 0)) < 1e-6)
    const score = Math.max(-rewardClip, Math.min(rewardClip, e.score))
    if (score !== e.score) clipped++
    let [advantage, next] = [0, 0]
    for (let k = n - 1; k >= 0; k--) {
      const r = -0.3 * kl[k]! + (k === n - 1 ? score : 0)
      advantage = r + 0.9 * next - e.values[k]! + 0.9 * 0.8 * advantage
      next = e.values[k]!
      t.true(Math.abs(e.advantages[k]! - advantage) < 1e-9, `row ${i} token ${k}`)
      t.true(Math.abs(e.returns[k]! - advantage - e.values[k]!) < 1e-9)
    }
  }
  t.is(clipped, 3)
})

test('whitening is over the whole experience', async (t) => {
  using device = createDevice({ threads: 2 })
  using actor = await freshModel(device, 'tiny')
  using critic = await freshModel(device, 'tiny', { head: 'scalar' })
  const models = { reference: actor.decoder, critic: critic.decoder, reward: critic.decoder }
  const experience = await scoreRollouts(models, await makeRollouts(actor.decoder, randomPrompts(6, 6, 24), generation(24)), 1, shaping)
  const all = whitened(experience).flatMap((e) => Array.from(e.advantages))
  const mean = all.reduce((s, x) => s + x, 0) / all.length
  t.true(Math.abs(mean) < 1e-9)
  t.true(Math.abs(all.reduce((s, x) => s + (x - mean) ** 2, 0) / (all.length - 1) - 1) < 1e-4)
  t.deepEqual(whitened(experience)[2]!.returns, experience[2]!.returns, 'returns stay')
  t.is(experience[0]!.kl, 0, 'an actor that is its reference has no KL, bit by bit')
})

test('the gap is the largest difference, over all rows', (t) => {
  const row = (...logprobs: number[]) => ({ prompt: Int32Array.of(1), answer: new Int32Array(logprobs.length), logprobs: Float32Array.from(logprobs), finish: 'stop' as const })
  const rows = [row(-1, -2), row(-0.5)]
  t.is(logprobGap(rows, Float32Array.of(-1, -2, -0.5)), 0)
  t.is(logprobGap(rows, Float32Array.of(-1, -2.25, -0.625)), 0.25)
  t.is(logprobGap(rows, Float32Array.of(-1, -2, -1)), 0.5)
})

test('normalised scores are paid less their mean and by their deviation, as if the reward model had given them so', async (t) => {
  using device = createDevice({ threads: 2 })
  using actor = await freshModel(device, 'tiny')
  using critic = await freshModel(device, 'tiny', { head: 'scalar', seed: 3 })
  const rollouts = await makeRollouts(actor.decoder, randomPrompts(5, 6, 24), generation(24))
  const models = { reference: actor.decoder, critic: critic.decoder, reward: critic.decoder }
  const plain = await scoreRollouts(models, rollouts, 1, { ...shaping, rewardClip: 1 })
  const scale = { mean: 0.7, deviation: 0.05 }
  const clipped = plain.map((e) => Math.max(-1, Math.min(1, (e.score - 0.7) / 0.05)))
  t.true(clipped.some((s) => Math.abs(s) === 1), 'the clip comes after')
  for (const [i, e] of plain.entries()) {
    const paid = repaid(e, { ...shaping, rewardClip: 1, scoreScale: scale })
    t.is(paid.score, e.score, 'the score itself stays')
    const asGiven = repaid({ ...e, score: clipped[i]! }, { ...shaping, rewardClip: 0 })
    for (const k of e.advantages.keys()) t.true(Math.abs(paid.advantages[k]! - asGiven.advantages[k]!) < 1e-9)
    t.deepEqual(repaid(e, { ...shaping, rewardClip: 1 }).advantages, e.advantages, 'the same shaping pays the same')
  }
})
