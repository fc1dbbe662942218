import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { gae, whiten } from '../../../lib/rlhf/gae.js'
import { explainedVariance } from '../../../lib/rlhf/explainedVariance.js'
import { formulaFixture, gap, normals, oracleTolerance, randomCases } from './support.js'

interface Case {
  gamma: number
  lambda: number
  rewards: number[]
  values: number[]
  advantages: number[]
  returns: number[]
}
const cases = formulaFixture<{ gae: Case[] }>('deepspeed-chat').gae

test('advantages and returns are those of the oracle', (t) => {
  t.true(cases.length >= 20)
  for (const c of cases) {
    const { advantages, returns } = gae(c)
    t.true(gap(advantages, c.advantages) < oracleTolerance)
    t.true(gap(returns, c.returns) < oracleTolerance)
  }
  // The comparison notices each constant and each input wherever it matters, that is from two tokens on.
  const long = cases.filter((c) => c.rewards.length > 2)
  t.true(long.length > 10)
  for (const c of long) {
    t.true(gap(gae({ ...c, gamma: c.gamma - 0.05 }).advantages, c.advantages) > oracleTolerance, 'gamma')
    t.true(gap(gae({ ...c, lambda: c.lambda - 0.05 }).advantages, c.advantages) > oracleTolerance, 'lambda')
    t.true(gap(gae({ ...c, values: [...c.values.slice(1), 0] }).advantages, c.advantages) > oracleTolerance, 'values one place on')
    t.true(gap(gae({ ...c, rewards: c.rewards.toReversed() }).returns, c.returns) > oracleTolerance, 'rewards reversed')
  }
})

test('gamma = lambda = 1 gives the sum of rewards to come as return', (t) => {
  for (const random of randomCases(10, 21)) {
    const rewards = normals(random, 8)
    const toCome = rewards.map((_, i) => rewards.slice(i).reduce((s, r) => s + r, 0))
    const values = normals(random, 8)
    t.true(gap(gae({ rewards, values, gamma: 1, lambda: 1 }).returns, toCome) < 1e-12)
    t.true(gap(gae({ rewards, values, gamma: 1, lambda: 0.95 }).returns, toCome) > 1e-6, 'lambda lets the critic in')
  }
})

test('whitening gives mean 0 and sample variance 1 over all tokens of all answers', (t) => {
  for (const random of randomCases(10, 22)) {
    const answers = [normals(random, 5, 3, 7), normals(random, 1, 3, 7), normals(random, 0), normals(random, 12, 3, 7)]
    const white = whiten(answers)
    t.deepEqual(white.map((a) => a.length), [5, 1, 0, 12])
    const spread = (of: Float64Array[]): [number, number] => {
      const all = of.flatMap((a) => Array.from(a))
      const mean = all.reduce((s, x) => s + x, 0) / all.length
      return [mean, all.reduce((s, x) => s + (x - mean) ** 2, 0) / (all.length - 1)]
    }
    t.true(gap(spread(white), [0, 1]) < 1e-7)
    t.true(gap(spread(answers), [0, 1]) > 1e-7)
    t.true(gap(spread(answers.map((a) => whiten([a])[0]!)), [0, 1]) > 1e-7, 'answer by answer is not the same')
    t.true(gap(spread(whiten(answers, 0.5)), [0, 1]) > 1e-7, 'epsilon acts')
  }
  t.deepEqual(whiten([Float64Array.of(2, 2), Float64Array.of(2)]), [Float64Array.of(0, 0), Float64Array.of(0)])
  t.deepEqual(whiten([]), [])
})

test('explained variance: perfect, mean-only, worse, and nothing to explain', (t) => {
  t.is(explainedVariance([1, 2, 4], [1, 2, 4]), 1)
  t.is(explainedVariance([3, 3, 3], [1, 2, 4]), 0)
  t.is(explainedVariance([6, 7, 9], [1, 2, 4]), 1, 'a constant offset does not count, as in the reference')
  t.true(gap(explainedVariance([4, 2, 1], [1, 2, 4])!, 1 - 18 / (14 / 3)) < 1e-12)
  t.is(explainedVariance([1, 2], [5, 5]), null)
  t.is(explainedVariance([], []), null)
})

test('unequal lengths are refused', (t) => {
  t.throws(() => gae({ rewards: [1, 2], values: [1], gamma: 1, lambda: 1 }), { instanceOf: ThreefoldError, message: /rewards of 2, values of 1/ })
  t.throws(() => explainedVariance([1], [1, 2]), { instanceOf: ThreefoldError, message: /values of 1, returns of 2/ })
})
