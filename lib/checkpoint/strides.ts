/** A parameter's place in a stock tensor that is itself stored as a view with strides. */
import type { Lies } from '../model/families/family.js'

/**
 * `lies` counts the elements of a row-major tensor of `shape`; the result counts those of a tensor whose elements stand
 * `strides` apart, for a parameter of `rows` x `columns`. Null where a step of it runs over the end of a dimension, so
 * that no strides describe it; the places in lib/model/families never do.
 */
export function throughStrides(
  lies: Lies,
  rows: number,
  columns: number,
  shape: readonly number[],
  strides: readonly number[],
): Lies | null {
  const { offset, block, blockStride, rowStride, columnStride } = lies
  const steps = [offset, blockStride, rowStride, columnStride].map((elements) => split(elements, shape))
  const counts = [1, Math.ceil(rows / block) - 1, Math.min(rows, block) - 1, columns - 1]
  const fits = shape.every((extent, d) => steps.reduce((sum, step, s) => sum + step[d]! * counts[s]!, 0) < extent)
  if (!fits) return null
  const [from, blocks, row, column] = steps.map((step) => step.reduce((sum, count, d) => sum + count * strides[d]!, 0))
  return { offset: from!, block, blockStride: blocks!, rowStride: row!, columnStride: column! }
}

/** A number of row-major elements as a number along each dimension; the first takes what is left. */
function split(elements: number, shape: readonly number[]): number[] {
  const counts = new Array<number>(shape.length).fill(0)
  let left = elements
  for (let d = shape.length - 1; d > 0; d--) {
    counts[d] = left % shape[d]!
    left = Math.floor(left / shape[d]!)
  }
  if (shape.length > 0) counts[0] = left
  return counts
}
