// Log-probs of whole answers, which DPO compares: the sum over the counted tokens of each packed row.
import type { PackedBatch } from '../data/packing.js'
import type { Decoder } from '../model/decoder.js'
import { scoreLogprobs, trainLogprobs } from './logprobs.js'

/** The row of each of the M counted targets. */
function rowsOf({ countedPositions, starts }: PackedBatch): Int32Array {
  let row = 0
  return countedPositions.map((t) => {
    while (t >= starts[row + 1]!) row++
    return row
  })
}

/** Counted tokens [B] of each row. */
export function answerLengths(batch: PackedBatch): Int32Array {
  const lengths = new Int32Array(batch.starts.length - 1)
  for (const row of rowsOf(batch)) lengths[row]!++
  return lengths
}

/** Log-probs [M] -> sums [B], in float64 and in order of position: they depend on nothing but the own row. */
function sumRows(batch: PackedBatch, logprobs: Float32Array): Float64Array {
  const sums = new Float64Array(batch.starts.length - 1)
  for (const [i, row] of rowsOf(batch).entries()) sums[row]! += logprobs[i]!
  return sums
}

/** Log-prob [B] of the counted tokens of each row together. */
export async function scoreAnswers(decoder: Decoder, batch: PackedBatch): Promise<Float64Array> {
  return sumRows(batch, await scoreLogprobs(decoder, batch))
}

/** Forward with a tape, the loss on answers' log-probs [B], backward: each counted token gets its answer's slope. */
export async function trainAnswers(decoder: Decoder, batch: PackedBatch, lossOf: (answers: Float64Array) => { loss: number; grad: ArrayLike<number> }): Promise<void> {
  await trainLogprobs(decoder, batch, (logprobs) => {
    const { loss, grad } = lossOf(sumRows(batch, logprobs))
    return { loss, grad: Float64Array.from(rowsOf(batch), (row) => grad[row]!) }
  })
}
