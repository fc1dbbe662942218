import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { RandomSequence } from '../../../lib/base/random.js'
import { mean, normal95, pairedDifference, RunningSums, standardError, wilsonInterval } from '../../../lib/base/statistics.js'
import { gap, normals } from '../rlhf/support.js'

test('mean, variance and standard error of a worked example', (t) => {
  const sums = new RunningSums().addAll([2, 4, 4, 4, 5, 5, 7, 9])
  t.is(sums.count, 8)
  t.true(gap([sums.mean, sums.sum, sums.variance, sums.standardDeviation, sums.standardError], [5, 40, 32 / 7, Math.sqrt(32 / 7), Math.sqrt(32 / 7 / 8)]) < 1e-14)
  t.true(gap(sums.variance, 32 / 8) > 1e-2, 'the population variance is told apart')
  t.is(mean([1, 2, 6]), 3)
  t.is(standardError([1, 3]), 1)
})

test('a small spread far from zero keeps its digits', (t) => {
  const values = normals(new RandomSequence(3, 1), 5000)
  const spread = new RunningSums().addAll(values).variance
  const shifted = values.map((x) => x + 1e8)
  t.true(gap(new RunningSums().addAll(shifted).variance, spread) < 1e-6)
  const textbook = (shifted.reduce((s, x) => s + x * x, 0) - shifted.reduce((s, x) => s + x, 0) ** 2 / 5000) / 4999
  t.true(gap(textbook, spread) > 1e-6, 'the sum of squares would not')
})

test('one number, or none, has no known error', (t) => {
  t.is(standardError([3]), Infinity)
  t.is(standardError([]), Infinity)
  t.true(Number.isNaN(mean([])))
  t.is(new RunningSums().addAll([3]).variance, 0)
  t.is(pairedDifference([1], [0]).standardError, Infinity, 'so no difference exceeds two of them')
})

// Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I, method 3.
test('Wilson intervals are the published ones', (t) => {
  const published: Array<[hits: number, n: number, low: number, high: number]> = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ]
  for (const [hits, n, low, high] of published) {
    t.true(gap(wilsonInterval(hits, n), [low, high]) < 6e-5, `${hits}/${n}`)
    t.true(gap(wilsonInterval(hits, n, 1.645), [low, high]) > 6e-5, 'a 90 % interval is told apart')
    const mirrored = wilsonInterval(n - hits, n)
    t.true(gap([1 - mirrored[1], 1 - mirrored[0]], wilsonInterval(hits, n)) < 1e-12, 'failures mirror successes')
  }
})

test('the ends of a Wilson interval are the shares that lie z standard errors from the figure', (t) => {
  for (const [hits, n] of [[3, 10], [7.5, 12], [199, 200]] as const)
    for (const end of wilsonInterval(hits, n)) t.true(gap(Math.abs(hits / n - end) / Math.sqrt((end * (1 - end)) / n), normal95) < 1e-9)
})

test('the interval covers the truth about as often as it says', (t) => {
  const random = new RandomSequence(5, 1)
  let covered = 0
  for (let trial = 0; trial < 4000; trial++) {
    let hits = 0
    for (let i = 0; i < 60; i++) if (random.uniform() < 0.85) hits++
    const [low, high] = wilsonInterval(hits, 60)
    if (low <= 0.85 && 0.85 <= high) covered++
  }
  // 95 % nominal; the standard deviation of this count is about 0.35 %.
  t.true(covered / 4000 > 0.93 && covered / 4000 < 0.97, `${covered / 4000}`)
})

test('Wilson at the edges', (t) => {
  t.deepEqual(wilsonInterval(0, 0), [0, 1])
  t.is(wilsonInterval(0, 7)[0], 0)
  t.is(wilsonInterval(7, 7)[1], 1)
  for (const [hits, n] of [[8, 7], [-1, 7], [NaN, 7], [0, -1]] as const)
    t.throws(() => wilsonInterval(hits, n), { instanceOf: ThreefoldError, message: /expected hits between 0 and the number of trials/ })
})

test('a paired difference is told more sharply than two means', (t) => {
  const random = new RandomSequence(6, 1)
  const items = normals(random, 400, 5)
  const noise = normals(random, 400, 0.1)
  const better = items.map((x, i) => x + 0.1 + noise[i]!)
  const paired = pairedDifference(better, items)
  t.true(Math.abs(paired.mean - 0.1) < 4 * paired.standardError)
  t.true(gap(paired.mean, mean(better) - mean(items)) < 1e-12)
  t.true(paired.standardError < 0.01 && standardError(items) > 0.1)
  t.throws(() => pairedDifference([1, 2], [1]), { instanceOf: ThreefoldError, message: /received 2 and 1 figures/ })
  t.throws(() => pairedDifference([], []), { instanceOf: ThreefoldError })
})

test('running sums go on from their state to the same bits', (t) => {
  const numbers = Array.from({ length: 50 }, (_, i) => Math.sin(i) * 1e3 + 1e6)
  const whole = new RunningSums().addAll(numbers)
  const half = new RunningSums().addAll(numbers.slice(0, 20))
  const rest = RunningSums.from(JSON.parse(JSON.stringify(half.state)) as typeof half.state).addAll(numbers.slice(20))
  t.deepEqual([rest.count, rest.mean, rest.variance], [whole.count, whole.mean, whole.variance])
  t.not(half.variance, whole.variance)
})
