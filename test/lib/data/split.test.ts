import test from 'ava'
import fc from 'fast-check'
import { batches, epochOrder } from '../../../lib/data/epochs.js'
import { blended, parseDataSplit, parseDataWeights, splitRule } from '../../../lib/data/split.js'
import type { SplitOptions } from '../../../lib/data/split.js'
import { failsWith } from './support.js'

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)
const sorted = (values: Iterable<number>): number[] => [...values].sort((a, b) => a - b)
const shares = fc
  .array(fc.integer({ min: 0, max: 10 }), { minLength: 1, maxLength: 5 })
  .filter((list) => list.some((share) => share > 0))

/** Training rows (once for each copy) and held-out rows of the first n. */
function parts(n: number, options: SplitOptions): { train: number[]; held: number[] } {
  const rule = splitRule(options)
  const train: number[] = []
  const held: number[] = []
  for (let i = 0; i < n; i++) {
    const row = rule(i)
    for (let copy = 0; copy < row.copies; copy++) train.push(i)
    if (row.held) held.push(i)
  }
  return { train, held }
}
const base: SplitOptions = { proportions: [2, 4, 4], step: 1, evalFraction: 0, seed: 1234 }
const all = (n: number, options: Omit<SplitOptions, 'step'>): number[] => options.proportions.flatMap((_, i) => Object.values(parts(n, { ...options, step: i + 1 })).flat())

test('the parts of the steps together are every row once', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 300 }), shares, fc.nat(2 ** 40), fc.double({ min: 0, max: 0.9, noNaN: true }), (n, proportions, seed, evalFraction) => {
      t.deepEqual(sorted(all(n, { proportions, evalFraction, seed })), numbers(n))
    }),
  )
  t.deepEqual(parts(300, { ...base, proportions: [0, 1, 0], step: 1 }), { train: [], held: [] })
  t.deepEqual(parts(300, { ...base, proportions: [1] }).train, numbers(300), 'without --data-split every row, in order')
})

test('every share is met to within a few rows, for any number of them', (t) => {
  // The count in an interval differs from its share by a multiple of log n at most, and by the smallest one for the golden
  // ratio (Ostrowski 1922); a shuffle would differ by sqrt(n). The bound below is what was measured, with a margin.
  for (const seed of [0, 1, 1234, 99_999])
    for (const n of [1, 2, 3, 7, 10, 33, 100, 1000, 4181, 6765, 20_000, 300_000])
      for (const [step, share] of [0.2, 0.4, 0.4].entries()) {
        const { train, held } = parts(n, { ...base, seed, step: step + 1, evalFraction: 0.1 })
        for (const [found, wanted] of [[train.length, 0.9 * share * n], [held.length, 0.1 * share * n]] as const)
          t.true(Math.abs(found - wanted) < 2.5, `seed ${seed}, step ${step + 1}: ${found} of ${n} instead of ${wanted}`)
      }
})

test('a set that grows at its end moves no row', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.nat(300), fc.integer({ min: 1, max: 3 }), fc.nat(1000), fc.double({ min: 0.1, max: 2.5, noNaN: true }), (n, more, step, seed, weight) => {
      const options = { ...base, step, seed, weight, evalFraction: 0.25 }
      const before = parts(n, options)
      const after = parts(n + more, options)
      t.deepEqual(after.train.filter((i) => i < n), before.train)
      t.deepEqual(after.held.filter((i) => i < n), before.held)
    }),
  )
})

test('another seed is another split, and the same seed the same', (t) => {
  const of = (seed: number): number[] => parts(1000, { ...base, seed, step: 2 }).train
  t.deepEqual(of(5), of(5))
  const same = (a: number, b: number): number => of(a).filter((i) => of(b).includes(i)).length
  for (const [a, b] of [[0, 1], [1, 2], [1234, 1235], [7, 2 ** 33 + 7]] as const) t.true(same(a, b) < 390, `${a} and ${b} share ${same(a, b)} of 400`)
})

test('what is held out depends on neither the step nor the weight of the others', (t) => {
  const held = parts(500, { ...base, evalFraction: 0.2, step: 3 }).held
  t.deepEqual(parts(500, { ...base, evalFraction: 0.2, step: 3, weight: 3 }).held, held)
  t.true(Math.abs(held.length - 40) < 3)
})

test('a weight is how often the rows are seen, and a larger one keeps those of a smaller one', (t) => {
  const train = (weight: number): number[] => parts(1000, { ...base, step: 2, weight }).train
  for (const weight of [0, 0.25, 0.5, 1, 1.5, 2, 3.1]) t.true(Math.abs(train(weight).length - 400 * weight) < 2 + 2 * weight, `${weight}: ${train(weight).length}`)
  t.deepEqual(train(0), [])
  t.deepEqual(train(2), train(1).flatMap((i) => [i, i]))
  const quarter = new Set(train(0.25))
  t.is(train(0.5).filter((i) => quarter.has(i)).length, quarter.size)
  t.deepEqual([...new Set(train(1.5))], train(1))
})

test('rows stand together as likely as apart: no step has a period of the rows', (t) => {
  // sets that alternate between sources (of every 2nd, 3rd, ... row) give each step its share of each source
  for (const period of [2, 3, 5, 8, 10, 13, 100]) {
    for (let rest = 0; rest < Math.min(period, 5); rest++) {
      const found = parts(period * 2000, { ...base, step: 2 }).train.filter((i) => i % period === rest).length
      t.true(Math.abs(found / 2000 - 0.4) < 0.02, `${found} of 2000 rows ${rest} of every ${period}`)
    }
  }
})

test('blending is one shuffle, the same for the same seed', (t) => {
  const rows = [...numbers(50), ...numbers(30).map((value) => value + 1000)]
  const mixed = blended(rows, 5, 'train')
  t.deepEqual(sorted(mixed), rows)
  t.deepEqual(blended(rows, 5, 'train'), mixed)
  t.notDeepEqual(blended(rows, 6, 'train'), mixed)
  t.notDeepEqual(blended(rows, 5, 'eval'), mixed)
  const firstOther = mixed.findIndex((value) => value >= 1000)
  t.true(mixed.slice(firstOther).some((value) => value < 1000), 'the sets are mixed')
})

test('--data-weights is read or refused', async (t) => {
  t.deepEqual(parseDataWeights(null, 2), [1, 1])
  t.deepEqual(parseDataWeights(' 1, 0.5', 2), [1, 0.5])
  for (const [text, paths] of [['1', 2], ['1,2,3', 2], ['0,0', 2], ['-1,1', 2], ['a,1', 2], ['', 1]] as const)
    await failsWith(t, () => parseDataWeights(text, paths), '[--data-weights]', JSON.stringify(text), paths === 1 ? '--data-weights 1' : '--data-weights 1,0.5')
})

test('--data-split is read or refused', async (t) => {
  t.deepEqual(parseDataSplit('2,4,4'), [2, 4, 4])
  t.deepEqual(parseDataSplit(' 1, 0.5,0'), [1, 0.5, 0])
  for (const text of ['2,4', '2,4,4,1', '2,,4', '0,0,0', '-1,1,1', 'a,b,c', '']) {
    await failsWith(t, () => parseDataSplit(text), '[--data-split]', JSON.stringify(text), 'Try --data-split 2,4,4')
  }
  await failsWith(t, () => splitRule({ proportions: [1], step: 2, evalFraction: 0, seed: 0 }), 'a step from 1 to 1')
  await failsWith(t, () => splitRule({ proportions: [1], step: 1, evalFraction: 1, seed: 0 }), '--eval-fraction')
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
