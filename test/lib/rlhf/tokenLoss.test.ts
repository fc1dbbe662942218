import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { perplexity, tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { assertSlopes, gap, normals, randomCases, randomCuts, splitTolerance } from './support.js'

test('the loss of a uniform guess over V words is log V, its perplexity V', (t) => {
  for (const vocabulary of [2, 97, 50272]) {
    const logprobs = new Float64Array(13).fill(-Math.log(vocabulary))
    t.true(gap(tokenLoss(logprobs, 13), Math.log(vocabulary)) < 1e-12)
    t.true(gap(perplexity(tokenLoss(logprobs, 13)), vocabulary) < 1e-10)
    t.true(gap(perplexity(tokenLoss(logprobs, 14)), vocabulary) > 1e-10, 'the count matters')
  }
  t.is(perplexity(1e6), Math.exp(80))
  t.is(perplexity(Infinity), Math.exp(80))
  t.true(Number.isNaN(perplexity(NaN)))
})

test('the gradient of the token loss is its slope, and micro-batches add up', (t) => {
  let meansOfMeansDiffer = 0
  for (const random of randomCases(20, 51)) {
    const n = 5 + random.below(100)
    const count = 2 ** (7 + random.below(4))
    const logprobs = normals(random, n, 1, -3)
    assertSlopes(t, (x) => tokenLoss(x, count), logprobs, Float64Array.from(tokenLossGrad(n, count)))
    const cuts = randomCuts(random, n)
    const whole = tokenLoss(logprobs, n)
    const parts = cuts.map(([from, to]) => tokenLoss(logprobs.slice(from, to), n))
    t.true(gap(parts.reduce((s, x) => s + x, 0), whole) < splitTolerance)
    const filled = cuts.filter(([from, to]) => to > from)
    const meanOfMeans = filled.reduce((s, [from, to]) => s + tokenLoss(logprobs.slice(from, to), to - from), 0) / filled.length
    if (gap(meanOfMeans, whole) > splitTolerance) meansOfMeansDiffer++
  }
  t.true(meansOfMeansDiffer > 12, 'the comparison refuses a mean of means')
})

test('a micro-batch without counted tokens adds nothing; a step without any is refused', (t) => {
  t.true(Math.abs(tokenLoss([], 7)) === 0)
  t.is(tokenLossGrad(0, 7).length, 0)
  t.throws(() => tokenLoss([], 0), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
  t.throws(() => tokenLossGrad(0, NaN), { instanceOf: ThreefoldError, message: /expected a count above 0/ })
})
