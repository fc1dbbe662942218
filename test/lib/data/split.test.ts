import test from 'ava'
import fc from 'fast-check'
import { batches, epochOrder } from '../../../lib/data/epochs.js'
import { blend, parseDataSplit, splitBoundaries, splitIndices } from '../../../lib/data/split.js'
import { failsWith } from './support.js'

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)
const sorted = (values: Iterable<number>): number[] => [...values].sort((a, b) => a - b)
const shares = fc
  .array(fc.integer({ min: 0, max: 10 }), { minLength: 1, maxLength: 5 })
  .filter((list) => list.some((share) => share > 0))

test('boundaries follow DeepSpeed-Chat: round, then take the excess off every boundary', (t) => {
  t.deepEqual(splitBoundaries(100, [2, 4, 4]), [0, 20, 60, 100])
  t.deepEqual(splitBoundaries(2312, [2, 4, 4]), [0, 462, 1387, 2312])
  // 0.5 rounds to even: 5 * 0.5 = 2.5 -> 2 twice, one short, so every boundary moves up by one.
  t.deepEqual(splitBoundaries(5, [1, 1]), [0, 3, 5])
  t.deepEqual(splitBoundaries(2, [1, 1, 1]), [0, 0, 1, 2])
  t.deepEqual(splitBoundaries(10, [10, 0, 0]), [0, 10, 10, 10])
})

test('the steps of a split are a partition of the rows', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 300 }),
      shares,
      fc.nat(1000),
      fc.double({ min: 0, max: 0.9, noNaN: true }),
      (n, proportions, seed, evalFraction) => {
        const parts = proportions.flatMap((_, index) => {
          const { train, eval: held } = splitIndices(n, { proportions, step: index + 1, evalFraction, seed })
          t.true(held.length === 0 || train.length > 0)
          return [...train, ...held]
        })
        t.deepEqual(sorted(parts), numbers(n))
      },
    ),
  )
})

test('what is held back is the tail of the slice, at least one row', (t) => {
  const base = { proportions: [1, 1], step: 2, seed: 3 }
  const whole = splitIndices(40, { ...base, evalFraction: 0 })
  const cut = splitIndices(40, { ...base, evalFraction: 0.25 })
  t.deepEqual([...cut.train, ...cut.eval], [...whole.train])
  t.is(cut.eval.length, 5)
  t.is(whole.eval.length, 0)
  t.is(splitIndices(40, { ...base, evalFraction: 0.001 }).eval.length, 1)
})

test('a blend holds every slice once, shuffled, the same for the same seed', (t) => {
  const datasets = [numbers(50), numbers(30).map((value) => value + 1000)]
  const options = { proportions: [2, 4, 4], step: 2, evalFraction: 0.2, seed: 5 }
  const result = blend(datasets, options)
  t.is(result.train.length, 16 + 10)
  t.is(result.eval.length, 4 + 2)
  t.is(new Set([...result.train, ...result.eval]).size, 32)
  t.deepEqual(blend(datasets, options), result)
  t.notDeepEqual(blend(datasets, { ...options, seed: 6 }).train, result.train)
  const firstOther = result.train.findIndex((value) => value >= 1000)
  t.true(
    result.train.slice(firstOther).some((value) => value < 1000),
    'the datasets are mixed',
  )
  // A dataset's slice does not depend on which other paths stand beside it.
  const alone = blend([datasets[1]!], options)
  t.deepEqual(sorted(alone.train), sorted(result.train.filter((value) => value >= 1000)))
})

test('--data-split is read or refused', async (t) => {
  t.deepEqual(parseDataSplit('2,4,4'), [2, 4, 4])
  t.deepEqual(parseDataSplit(' 1, 0.5,0'), [1, 0.5, 0])
  for (const text of ['2,4', '2,4,4,1', '2,,4', '0,0,0', '-1,1,1', 'a,b,c', '']) {
    await failsWith(t, () => parseDataSplit(text), '[--data-split]', JSON.stringify(text), 'Try --data-split 2,4,4')
  }
  await failsWith(t, () => splitIndices(5, { proportions: [1], step: 2, evalFraction: 0, seed: 0 }), 'a step from 1 to 1')
  await failsWith(t, () => splitIndices(5, { proportions: [1], step: 1, evalFraction: 1, seed: 0 }), '--eval-fraction')
})

test('the order of an epoch depends on seed and epoch alone', (t) => {
  t.deepEqual(epochOrder(20, 1, 4), epochOrder(20, 1, 4))
  t.notDeepEqual(epochOrder(20, 1, 4), epochOrder(20, 1, 5))
  t.notDeepEqual(epochOrder(20, 1, 4), epochOrder(20, 2, 4))
  t.deepEqual(sorted(epochOrder(20, 1, 4)), numbers(20))
})

test('batches cut an order without loss', async (t) => {
  const order = epochOrder(10, 1, 0)
  const cut = batches(order, 4)
  t.deepEqual(
    cut.map((batch) => batch.length),
    [4, 4, 2],
  )
  t.deepEqual(
    cut.flatMap((batch) => [...batch]),
    [...order],
  )
  t.deepEqual(batches(new Int32Array(0), 4), [])
  await failsWith(t, () => batches(order, 0), 'batch size')
})
