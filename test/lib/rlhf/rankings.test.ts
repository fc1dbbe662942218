// Rankings, margins, ties, ensembles and calibration against their formulas in plain float64.
import test from 'ava'

import { agreement, ensembleScores } from '../../../lib/rlhf/ensembleScores.js'
import { calibration } from '../../../lib/rlhf/calibration.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { rankedPairs } from '../../../lib/rlhf/rankedPairs.js'
import { assertSlopes, gap, normals, randomCases, splitTolerance } from './support.js'

const softplus = (x: number): number => Math.log(1 + Math.exp(x))

test('every two of K answers once, the better one first, equal ranks as ties', (t) => {
  t.deepEqual(rankedPairs([2, 1, 2]), [
    { better: 1, worse: 0, tie: false },
    { better: 0, worse: 2, tie: true },
    { better: 1, worse: 2, tie: false },
  ])
  t.deepEqual(rankedPairs([0, 1]), [{ better: 0, worse: 1, tie: false }])
  for (const k of [2, 3, 4, 9]) t.is(rankedPairs(Array.from({ length: k }, (_, i) => i)).length, (k * (k - 1)) / 2)
})

test('margins, ties and weights: loss and gradients', (t) => {
  let ties = 0
  for (const random of randomCases(60, 61)) {
    const n = 1 + random.below(8)
    const [chosen, rejected] = [normals(random, n, 2), normals(random, n, 2)]
    const tie = Array.from({ length: n }, () => random.below(2))
    const margin = normals(random, n).map((m, i) => (tie[i] ? 0 : m))
    const weight = normals(random, n).map(Math.abs)
    const rest = { count: n + random.below(5), center: 0.05 * random.below(3), margin, tie, weight }
    const result = pairwiseLoss({ chosen, rejected, ...rest })
    const expected = chosen.reduce((sum, c, i) => {
      const d = c - rejected[i]!
      const term = tie[i] ? (softplus(-d) + softplus(d)) / 2 : softplus(margin[i]! - d)
      return sum + weight[i]! * (term + rest.center * (c + rejected[i]!) ** 2)
    }, 0)
    t.true(gap(result.loss, expected / rest.count) < splitTolerance)
    assertSlopes(t, (x) => pairwiseLoss({ chosen: x, rejected, ...rest }).loss, chosen, result.gradChosen)
    assertSlopes(t, (x) => pairwiseLoss({ chosen, rejected: x, ...rest }).loss, rejected, result.gradRejected)
    t.is(result.correct, chosen.filter((c, i) => !tie[i] && c > rejected[i]!).length)
    for (const i of tie.keys()) if (tie[i]) ties++
  }
  t.true(ties > 50)
  const alike = { chosen: [1.5], rejected: [1.5], tie: [1], count: 1 }
  t.true(gap(pairwiseLoss(alike).loss, Math.LN2) < 1e-15)
  t.is(pairwiseLoss(alike).gradChosen[0], 0, 'answers judged alike pull nowhere where they score alike')
  t.true(pairwiseLoss({ ...alike, chosen: [900] }).loss === 449.25, 'and without overflow where they do not')
  t.throws(() => pairwiseLoss({ ...alike, margin: [] }), { message: /margin of 0/ })
})

test('the ensemble score is mean less spread; agreement is the share of pairs ordered alike', (t) => {
  const { scores, spreads } = ensembleScores([[1, 2], [3, 2], [8, 2]], 0.5)
  const spread = Math.sqrt((9 + 1 + 16) / 3)
  t.true(gap(spreads, [spread, 0]) < 1e-12)
  t.true(gap(scores, [4 - 0.5 * spread, 2]) < 1e-12)
  t.deepEqual(ensembleScores([Float32Array.of(0.1)], 7), { scores: Float64Array.from(Float32Array.of(0.1)), spreads: Float64Array.of(0) }, 'one model: its score, bit by bit')
  t.throws(() => ensembleScores([[1, 2], [3]], 1), { message: /model 1 of 2, model 2 of 1/ })
  t.is(agreement([1, -1, 2, 0], [2, 1, -1, 5], [1, 1, 1, 1]), (1 + 0 + 0 + 0.5) / 4)
  t.is(agreement([1, -1], [2, 1], [3, 1]), 0.75)
})

test('calibration: sure and right, sure and wrong, knowing nothing, and against bins counted by hand', (t) => {
  const ones = (n: number): number[] => new Array<number>(n).fill(1)
  const sure = calibration([40, 50], ones(2))!
  t.true(sure.error < 1e-12 && sure.brier < 1e-12 && sure.logLoss < 1e-12)
  const wrong = calibration([-40, -50], ones(2))!
  t.true(gap([wrong.error, wrong.brier, wrong.logLoss], [1, 1, 45]) < 1e-12)
  t.true(gap(Object.values(calibration([0, 0, 0], ones(3))!), [0, 0.25, Math.LN2]) < 1e-12)
  t.is(calibration([], []), null)
  for (const random of randomCases(20, 62)) {
    // a judge that is right as often as it says is calibrated
    const margins = normals(random, 20000, 2).map((m) => (random.uniform() < 1 / (1 + Math.exp(-Math.abs(m))) ? Math.abs(m) : -Math.abs(m)))
    t.true(calibration(margins, ones(20000))!.error < 0.02)
    t.true(calibration(margins.map((m) => 3 * m), ones(20000))!.error > 0.05, 'one that is three times as sure is not')
    const few = margins.subarray(0, 30)
    const weights = few.map(() => random.uniform())
    const confidence = (m: number): number => 1 / (1 + Math.exp(-Math.abs(m)))
    let error = 0
    for (let bin = 5; bin < 10; bin++) {
      const inside = [...few.keys()].filter((i) => Math.floor(10 * confidence(few[i]!)) === bin)
      error += Math.abs(inside.reduce((sum, i) => sum + weights[i]! * (confidence(few[i]!) - (few[i]! > 0 ? 1 : 0)), 0))
    }
    const total = weights.reduce((s, w) => s + w, 0)
    const mean = (of: (m: number) => number): number => few.reduce((sum, m, i) => sum + weights[i]! * of(m), 0) / total
    const { error: measured, brier, logLoss } = calibration(few, weights)!
    t.true(gap([measured, brier, logLoss], [error / total, mean((m) => (1 - 1 / (1 + Math.exp(-m))) ** 2), mean((m) => softplus(-m))]) < 1e-9)
  }
})
