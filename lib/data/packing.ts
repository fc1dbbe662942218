/**
 * Rows of different lengths side by side in one flat sequence, without padding. T = packed tokens, B = sequences;
 * sequence b lies at [starts[b], starts[b+1]).
 */
import { fail } from '../base/errors.js'
import type { PairRow, TokenRow } from './records.js'
import type { RowList } from './rowList.js'

/** Stands in `targets` where a position predicts nothing: the last token of each sequence. */
export const noTarget = -1

export interface PackedBatch {
  /** [T] */
  readonly ids: Int32Array
  /** [B+1] first token of each sequence; starts[B] = T. */
  readonly starts: Int32Array
  /** [T] place within the own sequence, from 0. */
  readonly positions: Int32Array
  /** [T] 1 where the token at t is itself a counted target (predicted from t-1). */
  readonly counted: Uint8Array
  /** [T] the token that position t predicts, ids[t+1] of the same sequence; noTarget at each sequence's end. */
  readonly targets: Int32Array
  /** [T] 1 where targets[t] counts in the loss: counted[t+1] of the same sequence. */
  readonly targetCounted: Uint8Array
  /** [M] the positions t with targetCounted[t] = 1, rising. */
  readonly countedPositions: Int32Array
  /** M, the number of counted targets. */
  readonly countedTotal: number
  /** [B] the number of each sequence within its optimizer step, which dropout draws by. */
  readonly rowNumbers: Int32Array
}

/** Packs rows in the given order. Every row has at least one token. `number`: of row b within the optimizer step, where there is one. */
export function packRows(rows: readonly TokenRow[], number: (b: number) => number = (b) => b): PackedBatch {
  if (rows.length === 0) fail('data', 'at least one row in a batch', 'none', 'a larger dataset or a smaller batch')
  const starts = new Int32Array(rows.length + 1)
  for (const [b, row] of rows.entries()) {
    if (row.ids.length === 0)
      fail('data', 'rows of at least one token', `an empty row at place ${b} of the batch`, 'to leave the row out')
    starts[b + 1] = starts[b]! + row.ids.length
  }
  const total = starts[rows.length]!
  const ids = new Int32Array(total)
  const positions = new Int32Array(total)
  const counted = new Uint8Array(total)
  const targets = new Int32Array(total)
  const targetCounted = new Uint8Array(total)
  for (const [b, row] of rows.entries()) {
    const start = starts[b]!
    const last = row.ids.length - 1
    ids.set(row.ids, start)
    counted.set(row.counted, start)
    for (let t = 0; t <= last; t++) {
      positions[start + t] = t
      targets[start + t] = t === last ? noTarget : row.ids[t + 1]!
      targetCounted[start + t] = t === last ? 0 : row.counted[t + 1]!
    }
  }
  const countedPositions = onesOf(targetCounted)
  return { ids, starts, positions, counted, targets, targetCounted, countedPositions, countedTotal: countedPositions.length, rowNumbers: Int32Array.from(rows, (_, b) => number(b)) }
}

/** Chosen answers first, then rejected ones, as one batch. `first`: the number of the first pair within the step. */
export function packPairs(pairs: readonly PairRow[], first = 0): PackedBatch {
  return packRows([...pairs.map((p) => p.chosen), ...pairs.map((p) => p.rejected)], (b) => 2 * (first + (b % pairs.length)) + (b < pairs.length ? 0 : 1))
}

function onesOf(mask: Uint8Array): Int32Array {
  const places: number[] = []
  for (let t = 0; t < mask.length; t++) if (mask[t] === 1) places.push(t)
  return Int32Array.from(places)
}

/** The rows of a packed batch again, as views into it. */
export function unpackRows(batch: Pick<PackedBatch, 'ids' | 'counted' | 'starts'>): TokenRow[] {
  const ids = splitPacked(batch.ids, batch.starts)
  const counted = splitPacked(batch.counted, batch.starts)
  return ids.map((row, b) => ({ ids: row, counted: counted[b]! }))
}

/** Cuts any array [T] that lies along the packed tokens into one view for each sequence. */
export function splitPacked<A extends Int32Array | Float32Array | Uint8Array>(values: A, starts: Int32Array): A[] {
  return Array.from({ length: starts.length - 1 }, (_, b) => values.subarray(starts[b], starts[b + 1]) as A)
}

/**
 * Groups of row numbers, in their order, whose rows hold at most maxTokens tokens together: greedy, so the order of rows
 * never changes. A single row over the limit is an error.
 */
export function packByTokens(rows: Pick<RowList<unknown>, 'length' | 'tokens'>, maxTokens: number): Int32Array[] {
  const packs: Int32Array[] = []
  const order = Int32Array.from({ length: rows.length }, (_, row) => row)
  let start = 0
  let tokens = 0
  for (const row of order) {
    const length = rows.tokens(row)
    if (length > maxTokens) {
      fail('data', `rows of at most ${maxTokens} tokens`, `${length} tokens in row ${row}`, 'a larger token limit for a pack')
    }
    if (tokens + length > maxTokens) {
      packs.push(order.subarray(start, row))
      start = row
      tokens = 0
    }
    tokens += length
  }
  if (start < order.length) packs.push(order.subarray(start))
  return packs
}
