import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import type { RandomSequence } from '../../../lib/base/random.js'
import type { PolicyLossInput } from '../../../lib/rlhf/policyLoss.js'
import { clippedPolicyLoss } from '../../../lib/rlhf/policyLoss.js'
import type { ValueLossInput } from '../../../lib/rlhf/valueLoss.js'
import { clippedValueLoss } from '../../../lib/rlhf/valueLoss.js'
import { assertSlopes, formulaFixture, gap, normals, oracleTolerance, randomCases, randomCuts, splitTolerance } from './support.js'

interface ActorCase {
  clip: number
  newLogprobs: number[]
  oldLogprobs: number[]
  advantages: number[]
  loss: number
  gradNewLogprobs: number[]
}
interface CriticCase {
  clip: number
  newValues: number[]
  oldValues: number[]
  returns: number[]
  loss: number
  gradNewValues: number[]
}
const oracle = formulaFixture<{ actorLoss: ActorCase[]; criticLoss: CriticCase[] }>('deepspeed-chat')

const policyInput = (c: ActorCase): PolicyLossInput => ({
  logprobs: c.newLogprobs,
  oldLogprobs: c.oldLogprobs,
  advantages: c.advantages,
  clipLow: c.clip,
  clipHigh: c.clip,
  count: c.newLogprobs.length,
})
const valueInput = (c: CriticCase): ValueLossInput => ({
  values: c.newValues,
  oldValues: c.oldValues,
  returns: c.returns,
  clip: c.clip,
  count: c.newValues.length,
})

test('the policy loss and its gradient are those of the oracle', (t) => {
  t.true(oracle.actorLoss.length >= 20)
  let noticed = 0
  for (const c of oracle.actorLoss) {
    const { loss, grad } = clippedPolicyLoss(policyInput(c))
    t.true(gap(loss, c.loss) < oracleTolerance)
    t.true(gap(grad, c.gradNewLogprobs) < oracleTolerance)
    const unclipped = clippedPolicyLoss({ ...policyInput(c), clipLow: 1, clipHigh: 1e9 })
    if (gap(unclipped.loss, c.loss) > oracleTolerance && gap(unclipped.grad, c.gradNewLogprobs) > oracleTolerance) noticed++
    t.true(gap(clippedPolicyLoss({ ...policyInput(c), count: c.newLogprobs.length + 1 }).loss, c.loss) > oracleTolerance, 'count')
  }
  t.true(noticed > 10, 'leaving out the clip is noticed')
})

test('the value loss and its gradient are those of the oracle', (t) => {
  t.true(oracle.criticLoss.length >= 20)
  let noticed = 0
  for (const c of oracle.criticLoss) {
    const { loss, grad } = clippedValueLoss(valueInput(c))
    t.true(gap(loss, c.loss) < oracleTolerance)
    t.true(gap(grad, c.gradNewValues) < oracleTolerance)
    const unclipped = clippedValueLoss({ ...valueInput(c), clip: 1e9 })
    if (gap(unclipped.loss, c.loss) > oracleTolerance && gap(unclipped.grad, c.gradNewValues) > oracleTolerance) noticed++
    t.true(gap(2 * loss, c.loss) > oracleTolerance, 'the factor one half')
  }
  t.true(noticed > 10, 'leaving out the clip is noticed')
})

/** A random case whose tokens all lie clear of the kinks, where a derivative does not exist. */
function policyCase(random: RandomSequence): { logprobs: Float64Array; rest: Omit<PolicyLossInput, 'logprobs'> } {
  const n = 1 + random.below(12)
  const [clipLow, clipHigh] = random.below(2) === 0 ? [0.2, 0.2] : [0.1, 0.28]
  const oldLogprobs = normals(random, n, 1, -2)
  const logprobs = normals(random, n, 0.4).map((d, t) => {
    const clear = [1 - clipLow, 1 + clipHigh].every((edge) => Math.abs(Math.exp(d) - edge) > 1e-4)
    return oldLogprobs[t]! + (clear ? d : 0)
  })
  return { logprobs, rest: { oldLogprobs, advantages: normals(random, n), clipLow, clipHigh, count: n + random.below(20) } }
}

test('the gradient of the policy loss is its slope', (t) => {
  let clipped = 0
  let tokens = 0
  for (const random of randomCases(60, 31)) {
    const { logprobs, rest } = policyCase(random)
    const result = clippedPolicyLoss({ logprobs, ...rest })
    clipped += result.clippedSum
    tokens += logprobs.length
    assertSlopes(t, (x) => clippedPolicyLoss({ logprobs: x, ...rest }).loss, logprobs, result.grad)
  }
  t.true(clipped > 20 && tokens - clipped > 100, 'both branches are covered')
})

test('the gradient of the value loss is its slope', (t) => {
  let clipped = 0
  let tokens = 0
  for (const random of randomCases(60, 32)) {
    const n = 1 + random.below(12)
    const clip = 0.2
    const oldValues = normals(random, n)
    const returns = normals(random, n, 0.6).map((d, i) => oldValues[i]! + d)
    const values = normals(random, n, 0.3).map((d, i) => {
      const v = oldValues[i]! + d
      const bound = oldValues[i]! + Math.sign(d) * clip
      const clear = Math.abs(v - bound) > 1e-4 && Math.abs(Math.abs(v - returns[i]!) - Math.abs(bound - returns[i]!)) > 1e-4
      return clear ? v : oldValues[i]!
    })
    const rest = { oldValues, returns, clip, count: n + random.below(20) }
    const result = clippedValueLoss({ values, ...rest })
    clipped += result.clippedSum
    tokens += n
    assertSlopes(t, (x) => clippedValueLoss({ values: x, ...rest }).loss, values, result.grad)
  }
  t.true(clipped > 20 && tokens - clipped > 100, 'both branches are covered')
})

test('micro-batches of both losses add up to the whole', (t) => {
  let meansOfMeansDiffer = 0
  for (const random of randomCases(30, 33)) {
    const n = 20 + random.below(200)
    const oldLogprobs = normals(random, n, 1, -2)
    const policy = { oldLogprobs, logprobs: normals(random, n, 0.3).map((d, i) => oldLogprobs[i]! + d), advantages: normals(random, n) }
    const oldValues = normals(random, n)
    const value = { oldValues, values: normals(random, n, 0.3).map((d, i) => oldValues[i]! + d), returns: normals(random, n) }
    const cuts = randomCuts(random, n)
    const part = <T extends Record<string, Float64Array>>(of: T, [from, to]: [number, number]): T =>
      Object.fromEntries(Object.entries(of).map(([key, array]) => [key, array.slice(from, to)])) as T

    const actor = (of: typeof policy, count: number) => clippedPolicyLoss({ ...of, clipLow: 0.2, clipHigh: 0.2, count })
    const critic = (of: typeof value, count: number) => clippedValueLoss({ ...of, clip: 0.2, count })
    const whole = { actor: actor(policy, n), critic: critic(value, n) }
    const parts = { actor: cuts.map((cut) => actor(part(policy, cut), n)), critic: cuts.map((cut) => critic(part(value, cut), n)) }

    const total = (of: number[]): number => of.reduce((s, x) => s + x, 0)
    for (const key of ['loss', 'clippedSum', 'approxKlSum', 'ratioSum'] as const)
      t.true(gap(total(parts.actor.map((p) => p[key])), whole.actor[key]) < splitTolerance, key)
    for (const key of ['loss', 'clippedSum'] as const) t.true(gap(total(parts.critic.map((p) => p[key])), whole.critic[key]) < splitTolerance, key)
    t.is(Math.max(...parts.actor.map((p) => p.ratioMax)), whole.actor.ratioMax)
    t.deepEqual(parts.actor.flatMap((p) => Array.from(p.grad)), Array.from(whole.actor.grad), 'bit-equal')
    t.deepEqual(parts.critic.flatMap((p) => Array.from(p.grad)), Array.from(whole.critic.grad), 'bit-equal')

    const filled = cuts.filter(([from, to]) => to > from)
    const meanOfMeans = total(filled.map((cut) => actor(part(policy, cut), cut[1] - cut[0]).loss)) / filled.length
    if (gap(meanOfMeans, whole.actor.loss) > splitTolerance) meansOfMeansDiffer++
  }
  t.true(meansOfMeansDiffer > 20, 'the comparison refuses a mean of means')
})

test('on-policy: ratio 1, no KL, nothing clipped, gradient -A / count', (t) => {
  const logprobs = [-1.5, -0.25, -3]
  const result = clippedPolicyLoss({ logprobs, oldLogprobs: logprobs, advantages: [1, -2, 0.5], clipLow: 0.2, clipHigh: 0.2, count: 4 })
  t.deepEqual(result, { loss: 0.125, grad: Float64Array.of(-0.25, 0.5, -0.125), clippedSum: 0, approxKlSum: 0, ratioSum: 3, ratioMax: 1 })
})

test('the sums to log are those of the ratios, and the KL estimate averages to KL(old || new)', (t) => {
  const call = (logprobs: ArrayLike<number>, oldLogprobs: ArrayLike<number>) =>
    clippedPolicyLoss({ logprobs, oldLogprobs, advantages: new Float64Array(logprobs.length), clipLow: 0.2, clipHigh: 0.2, count: 1 })
  const two = call([Math.log(0.5), Math.log(0.5)], [Math.log(0.25), Math.log(0.8)])
  t.true(gap([two.ratioSum, two.ratioMax], [2 + 0.625, 2]) < 1e-12)
  t.true(gap(two.approxKlSum, 1 - Math.log(2) + (0.625 - 1 - Math.log(0.625))) < 1e-12)

  // Every word of a vocabulary of three, weighted by the old policy: the estimate is then exact.
  const [old, now] = [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
  const estimate = old.reduce((s, p, i) => s + p * call([Math.log(now[i]!)], [Math.log(p)]).approxKlSum, 0)
  const kl = (p: number[], q: number[]): number => p.reduce((s, x, i) => s + x * Math.log(x / q[i]!), 0)
  t.true(gap(estimate, kl(old, now)) < 1e-12)
  t.true(gap(estimate, kl(now, old)) > 1e-3, 'the other direction is told apart')
})

test('low and high clip bounds act on their own sides', (t) => {
  const at = (ratio: number, advantage: number) =>
    clippedPolicyLoss({ logprobs: [Math.log(ratio)], oldLogprobs: [0], advantages: [advantage], clipLow: 0.2, clipHigh: 0.28, count: 1 })
  t.true(gap(at(1.25, 1).loss, -1.25) < 1e-12, 'below 1.28: not clipped')
  t.true(gap(at(1.5, 1).loss, -1.28) < 1e-12)
  t.true(gap(at(0.75, -1).loss, 0.8) < 1e-12)
  t.deepEqual([at(1.25, 1).clippedSum, at(1.5, 1).clippedSum, at(0.75, -1).clippedSum], [0, 1, 1])
  t.true(gap(at(1.5, -1).loss, 1.5) < 1e-12, 'a ratio that makes things worse is never clipped')
  t.true(gap(at(0.5, 1).loss, -0.5) < 1e-12)
})

test('what is not finite shows in the loss and the gradient', (t) => {
  const policy = clippedPolicyLoss({ logprobs: [NaN, -1], oldLogprobs: [-1, -1], advantages: [1, 1], clipLow: 0.2, clipHigh: 0.2, count: 2 })
  t.true(Number.isNaN(policy.loss) && Number.isNaN(policy.grad[0]!) && Number.isNaN(policy.ratioMax))
  const value = clippedValueLoss({ values: [NaN], oldValues: [0], returns: [0], clip: 0.2, count: 1 })
  t.true(Number.isNaN(value.loss) && Number.isNaN(value.grad[0]!))
})

test('wrong shapes and counts are refused in words', (t) => {
  const policy = { logprobs: [-1], oldLogprobs: [-1], advantages: [1], clipLow: 0.2, clipHigh: 0.2, count: 1 }
  const value = { values: [1], oldValues: [1], returns: [1], clip: 0.2, count: 1 }
  t.throws(() => clippedPolicyLoss({ ...policy, advantages: [1, 2] }), { instanceOf: ThreefoldError, message: /^\[policy loss\].*advantages of 2/ })
  t.throws(() => clippedValueLoss({ ...value, returns: [] }), { instanceOf: ThreefoldError, message: /^\[value loss\].*returns of 0/ })
  for (const count of [0, -1, NaN, Infinity]) {
    t.throws(() => clippedPolicyLoss({ ...policy, count }), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
    t.throws(() => clippedValueLoss({ ...value, count }), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
  }
})
