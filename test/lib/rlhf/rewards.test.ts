import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { klEstimators, klPenalty } from '../../../lib/rlhf/kl.js'
import { shapedRewards } from '../../../lib/rlhf/rewards.js'
import { assertSlopes, formulaFixture, gap, normals, oracleTolerance, randomCases } from './support.js'

interface Case {
  klCoefficient: number
  rewardClip: number
  logprobs: number[]
  refLogprobs: number[]
  score: number
  rewards: number[]
}
const cases = formulaFixture<{ shapedReward: Case[] }>('deepspeed-chat').shapedReward

const shaped = (c: Case): Float64Array => shapedRewards({ ...c, klCoef: c.klCoefficient })

test('shaped rewards are those of the oracle', (t) => {
  t.true(cases.length >= 20)
  for (const c of cases) {
    t.true(gap(shaped(c), c.rewards) < oracleTolerance)
    const swapped = { ...c, logprobs: c.refLogprobs, refLogprobs: c.logprobs }
    t.true(gap(shaped(swapped), c.rewards) > oracleTolerance, 'policy and reference swapped')
    t.true(gap(shaped({ ...c, klCoefficient: 0 }), c.rewards) > oracleTolerance, 'no penalty')
  }
  const clipped = cases.filter((c) => Math.abs(c.score) > c.rewardClip)
  t.true(clipped.length > 3)
  for (const c of clipped) t.true(gap(shaped({ ...c, rewardClip: 0 }), c.rewards) > oracleTolerance, 'the clip acts')
})

test('rewards from float32 log-probs are float64 over the same numbers', (t) => {
  for (const c of cases) {
    const [logprobs, refLogprobs] = [Float32Array.from(c.logprobs), Float32Array.from(c.refLogprobs)]
    const rewards = shapedRewards({ ...c, logprobs, refLogprobs, klCoef: c.klCoefficient })
    t.true(rewards instanceof Float64Array)
    t.deepEqual(rewards, shapedRewards({ ...c, logprobs: Array.from(logprobs), refLogprobs: Array.from(refLogprobs), klCoef: c.klCoefficient }))
  }
})

test('the chosen estimator is the one that is paid for', (t) => {
  const [logprobs, refLogprobs] = [[-1, -2], [-1.5, -1.25]]
  for (const estimator of klEstimators) {
    const rewards = shapedRewards({ logprobs, refLogprobs, score: 3, klCoef: 0.5, rewardClip: 0, estimator })
    const kl = klPenalty(logprobs, refLogprobs, estimator)
    t.deepEqual([...rewards], [-0.5 * kl[0]!, -0.5 * kl[1]! + 3])
  }
})

test('over a whole distribution k1 and k3 average to the KL divergence; k2 does not', (t) => {
  for (const random of randomCases(20, 11)) {
    const logSoftmax = (logits: Float64Array): Float64Array => {
      const total = Math.log(logits.reduce((s, x) => s + Math.exp(x), 0))
      return logits.map((x) => x - total)
    }
    const p = logSoftmax(normals(random, 9))
    const q = logSoftmax(normals(random, 9))
    const kl = p.reduce((s, lp, i) => s + Math.exp(lp) * (lp - q[i]!), 0)
    const average = (estimator: 'k1' | 'k2' | 'k3'): number => klPenalty(p, q, estimator).reduce((s, k, i) => s + Math.exp(p[i]!) * k, 0)
    t.true(gap(average('k1'), kl) < 1e-12)
    t.true(gap(average('k3'), kl) < 1e-12)
    t.true(gap(average('k2'), kl) > 1e-6)
    t.true(klPenalty(p, q, 'k3').every((k) => k >= 0))
  }
})

test('k3 keeps its digits where policy and reference nearly agree', (t) => {
  // e^-d - 1 + d from its series; d itself is good to about 1e-16, so k3 to 1e-16 / d of its own size.
  for (const d of [1e-3, 1e-5, 1e-6]) {
    const series = (d * d) / 2 - d ** 3 / 6 + d ** 4 / 24
    const relative = (k3: number): number => Math.abs(k3 / series - 1)
    t.true(relative(klPenalty([d], [0], 'k3')[0]!) < 1e-9, `d = ${d}`)
    if (d < 1e-4) t.true(relative(Math.exp(-d) - 1 + d) > 1e-9, 'as written in the formula it loses them')
  }
})

test('derivatives of the estimators are those stated', (t) => {
  for (const random of randomCases(5, 12)) {
    const lp = normals(random, 6, 1, -2)
    const ref = normals(random, 6, 1, -2)
    const total = (estimator: 'k1' | 'k2' | 'k3') => (x: Float64Array): number => klPenalty(x, ref, estimator).reduce((s, k) => s + k, 0)
    assertSlopes(t, total('k1'), lp, lp.map(() => 1))
    assertSlopes(t, total('k2'), lp, lp.map((x, i) => x - ref[i]!))
    assertSlopes(t, total('k3'), lp, lp.map((x, i) => 1 - Math.exp(ref[i]! - x)))
  }
})

test('an empty answer and unequal lengths are refused in words', (t) => {
  const base = { score: 1, klCoef: 0.1, rewardClip: 5 }
  const empty = t.throws(() => shapedRewards({ ...base, logprobs: [], refLogprobs: [] }), { instanceOf: ThreefoldError })
  t.is(empty.message, '[shaped rewards] expected an answer of at least one token, received an empty answer. Try leaving the answer out.')
  const unequal = t.throws(() => klPenalty([-1], [-1, -2], 'k1'), { instanceOf: ThreefoldError })
  t.is(unequal.received, 'logprobs of 1, refLogprobs of 2')
})
