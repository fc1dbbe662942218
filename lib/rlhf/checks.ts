// What every formula here asks of its input. Arrays of unequal length would give NaN, or silently lose tokens.
import { fail } from '../base/errors.js'

/** The common length of arrays that run over the same tokens or pairs; fails naming all lengths when they differ. */
export function commonLength(where: string, arrays: Readonly<Record<string, ArrayLike<number>>>): number {
  const entries = Object.entries(arrays)
  const n = entries[0]![1].length
  if (entries.some(([, array]) => array.length !== n))
    fail(
      where,
      `${entries.map(([name]) => name).join(', ')} of one length`,
      entries.map(([name, array]) => `${name} of ${array.length}`).join(', '),
      'passing one number per token (or pair) in each of them',
    )
  return n
}

/** A loss is a sum over a micro-batch divided by the count of the whole optimizer step, so that micro-batches add up. */
export function checkCount(where: string, count: number): void {
  if (!(count > 0 && Number.isFinite(count)))
    fail(where, 'a count above 0 (counted tokens or pairs of the whole optimizer step)', String(count), 'leaving out steps in which nothing counts')
}
