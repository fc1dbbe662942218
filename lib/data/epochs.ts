/** The order in which rows are seen. */
import { fail } from '../base/errors.js'
import { randomPurpose, seededShuffle, streamNumber } from '../base/random.js'

/** The order of n rows in one epoch (0-based): it depends on n, seed and epoch alone, not on what ran before. */
export function epochOrder(n: number, seed: number, epoch: number): Int32Array {
  return seededShuffle(n, seed, streamNumber(randomPurpose.epoch, epoch))
}

/**
 * Cuts an order into batches of batchSize row numbers; the last one may be shorter. Cuts a batch into micro-batches
 * just as well.
 */
export function batches(order: Int32Array, batchSize: number): Int32Array[] {
  if (!Number.isInteger(batchSize) || batchSize < 1)
    fail('data', 'a batch size of at least 1', String(batchSize), 'a whole number')
  const cut: Int32Array[] = []
  for (let start = 0; start < order.length; start += batchSize) cut.push(order.subarray(start, start + batchSize))
  return cut
}
