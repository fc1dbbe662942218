// DeepSpeed-Chat's padded forms against the oracle's whole padded batches (test/oracle/padded.py).
import test from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { paddedEnd, paddedSpan, sharedSpan } from '../../../lib/rlhf/comparedPositions.js'
import { gae } from '../../../lib/rlhf/gae.js'
import { paddedRewards, scorePosition } from '../../../lib/rlhf/paddedRewards.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { clippedPolicyLoss } from '../../../lib/rlhf/policyLoss.js'
import { clippedValueLoss } from '../../../lib/rlhf/valueLoss.js'
import { formulaFixture, gap, oracleTolerance } from './support.js'

type Rows = number[][]
interface PpoCase extends Record<'logprobs' | 'refLogprobs' | 'values' | 'newLogprobs' | 'newValues' | 'scores' | 'rewards' | 'oldValues' | 'advantages' | 'returns' | 'counted' | 'answers', Rows> {
  padId: number
  promptLength: number
  width: number
  score: number[]
  losses: { actorLoss: number; criticLoss: number; gradLogprobs: Rows; gradValues: Rows } | null
}
interface PairCase {
  padId: number
  atBeginning: number
  length: number
  pairs: { identical: boolean; ends: number[]; chosen: number[]; rejected: number[]; scores: [number[], number[]]; grads: [number[], number[]] }[]
  loss: number
}
const cases = formulaFixture<{ experience: PpoCase[]; everyPosition: PairCase[] }>('deepspeed-chat-padded')

const maskOf = (c: PpoCase, b: number): number[] => Array.from({ length: c.width }, (_, i) => ((c.answers[b]![i] ?? c.padId) === c.padId ? 0 : 1))

test('where the score is read and lands, what is zeroed, advantages and returns: 200 batches', (t) => {
  t.true(cases.experience.length >= 200)
  let [moved, unzeroed] = [0, 0]
  for (const c of cases.experience)
    for (const b of c.answers.keys()) {
      const score = c.scores[b]![scorePosition(c.promptLength, c.answers[b]!, c.padId)]!
      t.is(score, c.score[b]!)
      const input = { mask: maskOf(c, b), logprobs: c.logprobs[b]!, refLogprobs: c.refLogprobs[b]!, values: c.values[b]!, score, klCoef: 0.1, rewardClip: 5 }
      const shaped = paddedRewards(input)
      t.true(gap(shaped.rewards, c.rewards[b]!) < oracleTolerance)
      t.true(gap(shaped.values, c.oldValues[b]!) < oracleTolerance)
      const { advantages, returns } = gae({ ...shaped, gamma: 1, lambda: 0.95 })
      t.true(gap(advantages, c.advantages[b]!) < oracleTolerance)
      t.true(gap(returns, c.returns[b]!) < oracleTolerance)
      if (gap(paddedRewards({ ...input, mask: input.mask.map(() => 1) }).rewards, c.rewards[b]!) > oracleTolerance) moved++
      if (gap(input.values, c.oldValues[b]!) > oracleTolerance) unzeroed++
    }
  t.true(moved > 100 && unzeroed > 50, 'a mask that counts padding and values beyond the end are noticed')
})

test('the actor and critic losses over the tokens that count, with their gradients: 200 batches', (t) => {
  let noticed = 0
  let without = 0
  for (const c of cases.experience) {
    const counted = c.answers.map((ids, b) => (ids.filter((id) => id !== c.padId).length > 1 ? maskOf(c, b) : maskOf(c, b).fill(0)))
    t.deepEqual(counted, c.counted)
    if (c.losses === null) {
      without++
      continue
    }
    const of = (rows: Rows): number[] => rows.flatMap((row, b) => row.filter((_, i) => counted[b]![i] === 1))
    const all = counted.flat()
    const whole = (grad: Float64Array): number[] => {
      let at = 0
      return all.map((m) => (m === 1 ? grad[at++]! : 0))
    }
    const policy = { logprobs: of(c.newLogprobs), oldLogprobs: of(c.logprobs), advantages: of(c.advantages), clipLow: 0.2, clipHigh: 0.2, count: of(c.advantages).length }
    const actor = clippedPolicyLoss(policy)
    t.true(gap(actor.loss, c.losses.actorLoss) < oracleTolerance)
    t.true(gap(whole(actor.grad), c.losses.gradLogprobs.flat()) < oracleTolerance)
    const critic = clippedValueLoss({ values: of(c.newValues), oldValues: of(c.oldValues), returns: of(c.returns), clip: 0.2, count: policy.count })
    t.true(gap(critic.loss, c.losses.criticLoss) < oracleTolerance)
    t.true(gap(whole(critic.grad), c.losses.gradValues.flat()) < oracleTolerance)
    if (gap(clippedPolicyLoss({ ...policy, count: c.answers.flat().length }).loss, c.losses.actorLoss) > oracleTolerance) noticed++
  }
  t.true(noticed > 90 && without > 0, `${noticed} ${without}: a count with the end tokens is noticed`)
})

test('the reward loss on every position, to the longer end: 200 batches', (t) => {
  t.true(cases.everyPosition.length >= 200)
  let [shared, last] = [0, 0]
  for (const c of cases.everyPosition) {
    const lossOf = (span: (p: PairCase['pairs'][number]) => { from: number; to: number }): { loss: number; grads: number[][][] } => {
      let loss = 0
      const grads = c.pairs.map((p) => {
        const { from, to } = span(p)
        const weight = new Array<number>(to - from).fill(1 / (to - from))
        const result = pairwiseLoss({ chosen: p.scores[0].slice(from, to), rejected: p.scores[1].slice(from, to), weight, count: c.pairs.length })
        loss += result.loss
        return [result.gradChosen, result.gradRejected].map((grad) => p.scores[0].map((_, i) => (i >= from && i < to ? grad[i - from]! : 0)))
      })
      return { loss, grads }
    }
    const padding = { padId: c.padId, atBeginning: c.atBeginning, length: c.length }
    const { loss, grads } = lossOf((p) => paddedSpan(p.chosen, p.rejected, padding))
    t.true(gap(loss, c.loss) < oracleTolerance)
    for (const [i, p] of c.pairs.entries()) {
      t.deepEqual([paddedEnd(p.chosen, padding), paddedEnd(p.rejected, padding)], p.ends)
      // of equal rows the position is another one with the same difference, 0: nothing is left of both gradients together
      if (p.identical) for (const both of [p.grads, grads[i]!]) t.true(Math.abs(both[0]!.reduce((s, x, k) => s + x + both[1]![k]!, 0)) < oracleTolerance)
      else for (const side of [0, 1] as const) t.true(gap(grads[i]![side]!, p.grads[side]) < oracleTolerance)
    }
    const apart = { from: 0, to: 1 }
    if (gap(lossOf((p) => sharedSpan(p.chosen, p.rejected) ?? apart).loss, c.loss) > oracleTolerance) shared++
    if (gap(lossOf((p) => ({ from: Math.min(...p.ends) - 1, to: Math.min(...p.ends) })).loss, c.loss) > oracleTolerance) last++
  }
  t.true(shared > 150 && last > 150, 'the shorter end and one position alone are noticed')
})

test('spans: to the shorter end, to the longer end with padding, and what has none', (t) => {
  t.deepEqual(sharedSpan([1, 2, 3, 4], [1, 2, 5]), { from: 2, to: 3 })
  t.deepEqual(sharedSpan([7, 3, 4], [7, 5, 6, 8]), { from: 1, to: 3 })
  t.is(sharedSpan([1, 2], [1, 2]), null, 'equal')
  t.is(sharedSpan([1, 2], [1, 2, 3]), null, 'one begins with the other')
  const padding = { padId: 0, atBeginning: 0, length: 8 }
  t.deepEqual(paddedSpan([1, 2, 3, 4], [1, 2, 5], padding), { from: 2, to: 4 })
  t.deepEqual(paddedSpan([1, 2], [1, 2, 3], padding), { from: 2, to: 3 })
  t.deepEqual(paddedSpan([1, 2, 0], [1, 2], padding), { from: 1, to: 2 }, 'equal once padded')
  t.deepEqual(paddedSpan([1, 2, 4], [1, 2, 5], { ...padding, atBeginning: 1 }), { from: 2, to: 4 }, 'one padding token too many belongs to the row')
  t.deepEqual(paddedSpan([1, 2, 4], [1, 2, 5], { ...padding, atBeginning: 1, length: 3 }), { from: 2, to: 3 }, 'but not beyond its longest')
  for (const rows of [[[0, 1, 2], [0, 1, 3]], [[1, 0, 2, 3], [1, 0, 2, 4]], [[0, 1], [0, 1]]] as const)
    t.throws(() => paddedSpan(rows[0], rows[1], padding), { instanceOf: ThreefoldError, message: /^\[--compat\] expected at most 0 padding tokens \(id 0\) before an answer.*--num-padding-at-beginning/ })
  t.is(scorePosition(3, [4, 5, 0, 0], 0), 4)
  t.is(scorePosition(3, [4, 5], 0), 4)
  t.is(scorePosition(3, [0], 0), 2, 'at the prompt where the answer is empty')
})

test('paddedRewards refuses unequal lengths in words', (t) => {
  t.throws(() => paddedRewards({ mask: [1], values: [1, 2], logprobs: [1], refLogprobs: [1], score: 0, klCoef: 0.1, rewardClip: 0 }), { instanceOf: ThreefoldError, message: /^\[padded rewards\].*values of 2/ })
})
