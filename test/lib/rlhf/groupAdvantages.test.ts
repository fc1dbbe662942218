import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { groupAdvantages, groupBaselines, groupSpread } from '../../../lib/rlhf/groupAdvantages.js'
import { klEstimators, klLoss, klPenalty } from '../../../lib/rlhf/kl.js'
import { assertSlopes, gap, normals, randomCases, randomCuts, splitTolerance } from './support.js'

test('by hand: rewards 1, 2, 6 and 0, 0, 3', (t) => {
  const rewards = [1, 2, 6, 0, 0, 3]
  // means 3 and 1; means of the other two 4, 3.5, 1.5 and 1.5, 1.5, 0; squares 4 + 1 + 9 and 1 + 1 + 4 over 2
  t.true(gap(groupAdvantages(rewards, 3, 'leaveOneOut'), [-3, -1.5, 4.5, -1.5, -1.5, 3]) < 1e-12)
  t.true(gap(groupAdvantages(rewards, 3, 'unscaled'), [-2, -1, 3, -1, -1, 2]) < 1e-12)
  const [a, b] = [Math.sqrt(7) + 1e-4, Math.sqrt(3) + 1e-4]
  t.true(gap(groupAdvantages(rewards, 3, 'scaled'), [-2 / a, -1 / a, 3 / a, -1 / b, -1 / b, 2 / b]) < 1e-12)
  t.true(gap(groupAdvantages(rewards, 6, 'unscaled'), [-1, 0, 4, -2, -2, 1]) < 1e-12, 'another grouping is another answer')
})

test('written out as the papers have it, for random groups; each group has mean 0', (t) => {
  for (const random of randomCases(40, 61)) {
    const k = 2 + random.below(7)
    const n = k * (1 + random.below(5))
    const rewards = normals(random, n, 3, -1)
    for (const baseline of groupBaselines) {
      const got = groupAdvantages(rewards, k, baseline)
      const want = Float64Array.from(rewards, (r, i) => {
        const group = Array.from(rewards.subarray(i - (i % k), i - (i % k) + k))
        const others = group.filter((_, j) => j !== i % k)
        const mean = (x: number[]): number => x.reduce((s, y) => s + y, 0) / x.length
        const std = Math.sqrt(group.reduce((s, y) => s + (y - mean(group)) ** 2, 0) / (k - 1))
        return baseline === 'leaveOneOut' ? r - mean(others) : (r - mean(group)) / (baseline === 'scaled' ? std + 1e-4 : 1)
      })
      t.true(gap(got, want) < 1e-11, baseline)
      for (let g = 0; g < n; g += k) t.true(Math.abs(got.subarray(g, g + k).reduce((s, x) => s + x, 0)) < 1e-9)
      for (const other of groupBaselines) if (other !== baseline) t.true(gap(groupAdvantages(rewards, k, other), want) > 1e-6, `${baseline} is not ${other}`)
    }
  }
})

test('answers that are all alike teach nothing, exactly; how far groups spread', (t) => {
  const rewards = [0.1, 0.1, 0.1, 1, 2, 3]
  for (const baseline of groupBaselines) t.deepEqual(Array.from(groupAdvantages(rewards, 3, baseline).slice(0, 3)), [0, 0, 0])
  t.deepEqual(groupSpread(rewards, 3), { std: 0.5, zeroShare: 0.5 })
})

test('groups that are not whole are refused in words', (t) => {
  for (const [n, k] of [[5, 2], [4, 1], [0, 2]] as const) t.throws(() => groupAdvantages(new Float64Array(n), k, 'scaled'), { instanceOf: ThreefoldError, message: new RegExp(`^\\[group advantages\\].*${n} answers in groups of ${k}`) })
})

test('the KL as a loss: its value, its slopes, micro-batches that add up', (t) => {
  for (const random of randomCases(30, 62)) {
    const n = 1 + random.below(12)
    const count = n + random.below(6)
    const [logprobs, refLogprobs] = [normals(random, n, 0.7, -2), normals(random, n, 0.7, -2)]
    for (const estimator of klEstimators) {
      const { loss, grad } = klLoss(logprobs, refLogprobs, estimator, count)
      t.true(gap(loss, klPenalty(logprobs, refLogprobs, estimator).reduce((s, x) => s + x, 0) / count) < 1e-12)
      assertSlopes(t, (x) => klLoss(x, refLogprobs, estimator, count).loss, logprobs, grad)
      const parts = randomCuts(random, n).map(([from, to]) => klLoss(logprobs.slice(from, to), refLogprobs.slice(from, to), estimator, count))
      t.true(gap(parts.reduce((s, p) => s + p.loss, 0), loss) < splitTolerance)
      t.deepEqual(parts.flatMap((p) => Array.from(p.grad)), Array.from(grad))
    }
  }
  const same = klLoss([-1, -2], [-1, -2], 'k3', 2)
  t.deepEqual([same.loss, Array.from(same.grad).map(Math.abs)], [0, [0, 0]])
  t.throws(() => klLoss([1], [1, 2], 'k3', 1), { message: /logprobs of 1, refLogprobs of 2/ })
})
