// Ranked answers as one packed batch, each answer once, and the comparisons between their scores: K forwards for K answers,
// not K (K - 1).
import { packRows } from '../data/packing.js'
import type { PackedBatch } from '../data/packing.js'
import type { RankedRow, TokenRow } from '../data/records.js'
import { paddedEnd, paddedSpan, sharedSpan } from '../rlhf/comparedPositions.js'
import type { Padding, Span } from '../rlhf/comparedPositions.js'
import type { PairwiseLossInput } from '../rlhf/pairwiseLoss.js'
import { rankedPairs } from '../rlhf/rankedPairs.js'
import type { RankedPair } from '../rlhf/rankedPairs.js'

/**
 * Which scores of two answers a loss compares: those at their last tokens, or at every position from where they part to the
 * end of the shorter one, or, with a padding, to the end of the longer one as DeepSpeed-Chat does. Padding tokens are then
 * put behind the shorter one. They see those before them and have positions that go on (there padding is masked as a key).
 */
export type Comparison = 'last' | 'every-position' | Padding

/** [n] comparisons between values, by their places in `rows`; those of one row of answers weigh 1 together. */
type Terms = Required<Pick<PairwiseLossInput, 'weight' | 'margin' | 'tie'>> & { chosen: Int32Array; rejected: Int32Array }

export interface RankedBatch {
  batch: PackedBatch
  /** [R] positions of the batch whose values are asked for. */
  rows: Int32Array
  terms: Terms
  /** Of each row: where in the values the score of each answer is, and its pairs. */
  ranked: { scores: number[]; pairs: RankedPair[] }[]
}

/** `first`: the number of the first answer within the step; an answer's number does not depend on how rows are cut into batches. */
export function packRanked(all: readonly RankedRow[], comparison: Comparison, first = 0): RankedBatch {
  let next = first
  const plans = all.map((row) => {
    const plan = { ...planOf(row, comparison), first: next }
    next += row.ranks.length
    return plan
  })
  const numbers: number[] = []
  const packed: TokenRow[] = []
  const rows: number[] = []
  let tokens = 0
  // the best answers of all rows first, then the second ones, and so on
  for (let place = 0; plans.some(({ order }) => place < order.length); place++)
    for (const { answers, order, reads, starts, first: base } of plans) {
      const i = order[place]
      if (i === undefined) continue
      const { from, to } = reads[i]!
      starts[i] = rows.length - from
      for (let t = from; t < to; t++) rows.push(tokens + t)
      packed.push(typeof comparison === 'string' ? answers[i]! : padded(answers[i]!, to, comparison.padId))
      numbers.push(base + place)
      tokens += packed.at(-1)!.ids.length
    }
  const terms: [chosen: number, rejected: number, weight: number, margin: number, tie: number][] = []
  const ranked = plans.map(({ pairs, spans, ends, starts, margin }) => {
    const scores = starts.map((start, i) => start + ends[i]! - 1)
    for (const [p, { better, worse, tie }] of pairs.entries()) {
      const span = spans[p]!
      const judged = [pairs.length === 1 ? margin : 0, tie ? 1 : 0] as const
      if (span === null) terms.push([scores[better]!, scores[worse]!, 1 / pairs.length, ...judged])
      else for (let t = span.from; t < span.to; t++) terms.push([starts[better]! + t, starts[worse]! + t, 1 / (pairs.length * (span.to - span.from)), ...judged])
    }
    return { scores, pairs }
  })
  const [chosen, rejected] = [Int32Array.from(terms, (term) => term[0]), Int32Array.from(terms, (term) => term[1])]
  const [weight, margin, tie] = [2, 3, 4].map((k) => Float64Array.from(terms, (term) => term[k]!)) as [Float64Array, Float64Array, Float64Array]
  return { batch: packRows(packed, (b) => numbers[b]!), rows: Int32Array.from(rows), terms: { chosen, rejected, weight, margin, tie }, ranked }
}

/** What a row of K answers needs: its pairs, where each answer ends and is read, in which order its answers are packed. */
function planOf({ answers, ranks, margin }: RankedRow, comparison: Comparison) {
  const pairs = rankedPairs(ranks)
  const ends = answers.map(({ ids }) => (typeof comparison === 'string' ? ids.length : paddedEnd(ids, comparison)))
  const spans = pairs.map(({ better, worse }) => spanOf(answers[better]!, answers[worse]!, comparison))
  const reads = ends.map((end, i): Span => {
    const own = spans.filter((span, p): span is Span => span !== null && (pairs[p]!.better === i || pairs[p]!.worse === i))
    return { from: Math.min(end - 1, ...own.map((span) => span.from)), to: Math.max(end, ...own.map((span) => span.to)) }
  })
  const order = [...answers.keys()].sort((a, b) => ranks[a]! - ranks[b]!)
  /** The value of answer i at position t stands at starts[i] + t. */
  const starts = new Array<number>(answers.length).fill(0)
  return { answers, margin, pairs, ends, spans, reads, order, starts }
}

/** Null: the scores at the last tokens are compared. Every position, too, ends there where two answers part nowhere. */
function spanOf(better: TokenRow, worse: TokenRow, comparison: Comparison): Span | null {
  if (comparison === 'last') return null
  return comparison === 'every-position' ? sharedSpan(better.ids, worse.ids) : paddedSpan(better.ids, worse.ids, comparison)
}

function padded({ ids, counted }: TokenRow, length: number, padId: number): TokenRow {
  if (ids.length >= length) return { ids, counted }
  const row = { ids: new Int32Array(length).fill(padId), counted: new Uint8Array(length) }
  row.ids.set(ids)
  row.counted.set(counted)
  return row
}
