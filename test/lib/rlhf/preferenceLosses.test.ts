import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { dpoLoss, dpoLossTypes } from '../../../lib/rlhf/dpoLoss.js'
import { logSigmoid, sigmoid } from '../../../lib/rlhf/logSigmoid.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { assertSlopes, formulaFixture, gap, normals, oracleTolerance, randomCases, randomCuts, splitTolerance } from './support.js'

interface PairCase {
  chosenScores: number[]
  rejectedScores: number[]
  loss: number
  accuracy: number
  gradChosenScores: number[]
  gradRejectedScores: number[]
}
interface DpoCase {
  beta: number
  labelSmoothing: number
  policyChosen: number[]
  policyRejected: number[]
  refChosen: number[]
  refRejected: number[]
  loss: number
  chosenRewards: number[]
  rejectedRewards: number[]
  gradPolicyChosen: number[]
  gradPolicyRejected: number[]
}
const oracle = formulaFixture<{ pairwiseLoss: PairCase[]; dpoLoss: DpoCase[] }>('deepspeed-chat')
const total = (of: number[]): number => of.reduce((s, x) => s + x, 0)

test('the pairwise loss, its gradients and its accuracy are those of the oracle', (t) => {
  t.true(oracle.pairwiseLoss.length >= 20)
  for (const c of oracle.pairwiseLoss) {
    const count = c.chosenScores.length
    const result = pairwiseLoss({ chosen: c.chosenScores, rejected: c.rejectedScores, count })
    t.true(gap(result.loss, c.loss) < oracleTolerance)
    t.true(gap(result.gradChosen, c.gradChosenScores) < oracleTolerance)
    t.true(gap(result.gradRejected, c.gradRejectedScores) < oracleTolerance)
    t.true(gap(result.correct / count, c.accuracy) < oracleTolerance)
    const swapped = pairwiseLoss({ chosen: c.rejectedScores, rejected: c.chosenScores, count })
    t.true(gap(swapped.loss, c.loss) > oracleTolerance, 'chosen and rejected swapped')
    t.true(gap(swapped.gradChosen, c.gradChosenScores) > oracleTolerance)
  }
})

test('the DPO loss, its gradients and rewards are those of the oracle', (t) => {
  t.true(oracle.dpoLoss.length >= 20)
  for (const c of oracle.dpoLoss) {
    const input = { ...c, count: c.policyChosen.length }
    const result = dpoLoss(input)
    t.true(gap(result.loss, c.loss) < oracleTolerance)
    t.true(gap(result.gradChosen, c.gradPolicyChosen) < oracleTolerance)
    t.true(gap(result.gradRejected, c.gradPolicyRejected) < oracleTolerance)
    t.true(gap(result.rewardsChosen, c.chosenRewards) < oracleTolerance)
    t.true(gap(result.rewardsRejected, c.rejectedRewards) < oracleTolerance)
    t.true(gap(dpoLoss({ ...input, refChosen: c.refRejected, refRejected: c.refChosen }).loss, c.loss) > oracleTolerance, 'references swapped')
    t.true(gap(dpoLoss({ ...input, labelSmoothing: c.labelSmoothing + 0.05 }).loss, c.loss) > oracleTolerance, 'smoothing')
    t.true(gap(dpoLoss({ ...input, beta: 2 * c.beta }).rewardsChosen, c.chosenRewards) > oracleTolerance, 'beta')
  }
})

test('gradients of the pairwise loss are its slopes', (t) => {
  for (const random of randomCases(40, 41)) {
    const n = 1 + random.below(8)
    const [chosen, rejected] = [normals(random, n, 2), normals(random, n, 2)]
    const count = n + random.below(10)
    const rest = { count, center: 0.05 * random.below(3) }
    const { gradChosen, gradRejected } = pairwiseLoss({ chosen, rejected, ...rest })
    assertSlopes(t, (x) => pairwiseLoss({ chosen: x, rejected, ...rest }).loss, chosen, gradChosen)
    assertSlopes(t, (x) => pairwiseLoss({ chosen, rejected: x, ...rest }).loss, rejected, gradRejected)
  }
})

for (const type of dpoLossTypes)
  test(`gradients of the DPO loss are its slopes: ${type}`, (t) => {
    for (const random of randomCases(40, 42)) {
      const n = 1 + random.below(8)
      const [policyChosen, policyRejected] = [normals(random, n, 5, -20), normals(random, n, 5, -20)]
      const labelSmoothing = type === 'sigmoid' ? 0.1 * random.below(4) : 0
      const rest = { type, refChosen: normals(random, n, 5, -20), refRejected: normals(random, n, 5, -20), beta: 0.3, labelSmoothing, count: n + random.below(10) }
      const { gradChosen, gradRejected } = dpoLoss({ policyChosen, policyRejected, ...rest })
      assertSlopes(t, (x) => dpoLoss({ policyChosen: x, policyRejected, ...rest }).loss, policyChosen, gradChosen)
      assertSlopes(t, (x) => dpoLoss({ policyChosen, policyRejected: x, ...rest }).loss, policyRejected, gradRejected)
    }
  })

test('hinge and IPO by hand', (t) => {
  // d = (-3 + 4) - (-9 + 5) = 5 and (-2 + 1) - (-2 + 2) = -1
  const pairs = { policyChosen: [-3, -2], policyRejected: [-9, -2], refChosen: [-4, -1], refRejected: [-5, -2], beta: 0.25, labelSmoothing: 0, count: 2 }
  const hinge = dpoLoss({ type: 'hinge', ...pairs })
  t.is(hinge.loss, (0 + 1.25) / 2, 'a margin beyond 1 costs nothing')
  t.deepEqual([Array.from(hinge.gradChosen), Array.from(hinge.gradRejected)], [[0, -0.125], [-0, 0.125]])
  const ipo = dpoLoss({ type: 'ipo', ...pairs })
  t.is(ipo.loss, (3 ** 2 + 3 ** 2) / 2, 'from 1 / (2 beta) = 2, on either side')
  t.deepEqual([Array.from(ipo.gradChosen), Array.from(ipo.gradRejected)], [[3, -3], [-3, 3]])
  for (const { rewardsChosen, rewardsRejected, correct } of [hinge, ipo, dpoLoss(pairs)]) t.deepEqual([Array.from(rewardsChosen), Array.from(rewardsRejected), correct], [[0.25, -0.25], [-1, 0], 1], 'rewards are the same for all')
  for (const type of dpoLossTypes) t.true(Number.isNaN(dpoLoss({ type, ...pairs, policyChosen: [NaN, 0] }).loss), `${type}: what is not finite shows`)
})

test('micro-batches of both losses add up to the whole', (t) => {
  let meansOfMeansDiffer = 0
  for (const random of randomCases(30, 43)) {
    const n = 10 + random.below(100)
    const [a, b, c, d] = [0, 1, 2, 3].map(() => normals(random, n, 3)) as [Float64Array, Float64Array, Float64Array, Float64Array]
    const cuts = randomCuts(random, n)
    const pair = ([from, to]: [number, number], count: number) => pairwiseLoss({ chosen: a.slice(from, to), rejected: b.slice(from, to), count, center: 0.01 })
    const dpo = ([from, to]: [number, number], count: number) =>
      dpoLoss({ policyChosen: a.slice(from, to), policyRejected: b.slice(from, to), refChosen: c.slice(from, to), refRejected: d.slice(from, to), beta: 0.5, labelSmoothing: 0.1, count })
    for (const of of [pair, dpo]) {
      const whole = of([0, n], n)
      const parts = cuts.map((cut) => of(cut, n))
      t.true(gap(total(parts.map((p) => p.loss)), whole.loss) < splitTolerance)
      t.is(total(parts.map((p) => p.correct)), whole.correct)
      t.deepEqual(parts.flatMap((p) => Array.from(p.gradChosen)), Array.from(whole.gradChosen), 'bit-equal')
      t.deepEqual(parts.flatMap((p) => Array.from(p.gradRejected)), Array.from(whole.gradRejected), 'bit-equal')
      const filled = cuts.filter(([from, to]) => to > from)
      const meanOfMeans = total(filled.map((cut) => of(cut, cut[1] - cut[0]).loss)) / filled.length
      if (gap(meanOfMeans, whole.loss) > splitTolerance) meansOfMeansDiffer++
    }
  }
  t.true(meansOfMeansDiffer > 40, 'the comparison refuses a mean of means')
})

test('a tie counts half, and costs log 2 with half a push', (t) => {
  const tie = pairwiseLoss({ chosen: [1, 2, 0], rejected: [1, 1, 3], count: 3 })
  t.is(tie.correct, 1.5)
  t.true(gap(pairwiseLoss({ chosen: [4], rejected: [4], count: 1 }).loss, Math.LN2) < 1e-15)
  t.is(pairwiseLoss({ chosen: [4], rejected: [4], count: 1 }).gradChosen[0], -0.5)
  const same = { policyChosen: [-3], policyRejected: [-5], refChosen: [-3], refRejected: [-5], beta: 0.1, labelSmoothing: 0, count: 1 }
  t.is(dpoLoss(same).correct, 0.5)
  t.true(gap(dpoLoss(same).loss, Math.LN2) < 1e-15)
})

test('centring costs center (c + r)^2 a pair, pulls both scores alike, and leaves who wins alone', (t) => {
  const scores = { chosen: [3, -1], rejected: [1, 0.5], count: 4 }
  const [plain, centred] = [pairwiseLoss(scores), pairwiseLoss({ ...scores, center: 0.1 })]
  t.true(gap(centred.loss - plain.loss, (0.1 * (4 ** 2 + 0.5 ** 2)) / 4) < 1e-12)
  for (const key of ['gradChosen', 'gradRejected'] as const) t.true(gap(centred[key].map((g, i) => g - plain[key][i]!), [0.2, -0.025]) < 1e-12)
  t.is(centred.correct, plain.correct)
  t.deepEqual(pairwiseLoss({ ...scores, center: 0 }), plain)
  t.true(gap(pairwiseLoss({ ...scores, center: 0.2 }).loss, centred.loss) > 1e-12, 'its weight acts')
})

test('no margin overflows, and small terms keep their digits', (t) => {
  for (const margin of [50, 800, 1e5, 1e300]) {
    t.is(logSigmoid(-margin), -margin)
    t.is(sigmoid(margin), 1)
    t.true(logSigmoid(margin) <= 0 && logSigmoid(margin) > -1e-20 && sigmoid(-margin) >= 0 && sigmoid(-margin) < 1e-20)
    const wrong = pairwiseLoss({ chosen: [-margin], rejected: [0], count: 1 })
    t.deepEqual([wrong.loss, wrong.gradChosen[0], wrong.gradRejected[0], wrong.correct], [margin, -1, 1, 0])
  }
  t.true(Math.abs(logSigmoid(40) / -Math.exp(-40) - 1) < 1e-12, 'not rounded to 0')
})

test('what is not finite shows in the loss and the gradient', (t) => {
  const pair = pairwiseLoss({ chosen: [NaN, 1], rejected: [0, 0], count: 2 })
  t.true(Number.isNaN(pair.loss) && Number.isNaN(pair.gradChosen[0]!) && pair.correct === 1)
  const dpo = dpoLoss({ policyChosen: [NaN], policyRejected: [0], refChosen: [0], refRejected: [0], beta: 0.1, labelSmoothing: 0, count: 1 })
  t.true(Number.isNaN(dpo.loss) && Number.isNaN(dpo.gradRejected[0]!))
})

test('wrong shapes and counts are refused in words', (t) => {
  t.throws(() => pairwiseLoss({ chosen: [1, 2], rejected: [1], count: 2 }), { instanceOf: ThreefoldError, message: /^\[pairwise loss\].*chosen of 2, rejected of 1/ })
  t.throws(() => pairwiseLoss({ chosen: [1], rejected: [1], count: 0 }), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
  const dpo = { policyChosen: [1], policyRejected: [1], refChosen: [1], refRejected: [1], beta: 0.1, labelSmoothing: 0, count: 1 }
  t.throws(() => dpoLoss({ ...dpo, refRejected: [] }), { instanceOf: ThreefoldError, message: /^\[DPO loss\].*refRejected of 0/ })
  t.throws(() => dpoLoss({ ...dpo, count: -1 }), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
})
