/** `--data-split 2,4,4`: which rows each of the three steps may see, and how several datasets become one. */
import { fail } from '../base/errors.js'
import { randomPurpose, seededShuffle, streamNumber } from '../base/random.js'

export interface SplitOptions {
  /** Shares of the steps, in any unit: [2, 4, 4]. [1] gives everything to step 1. */
  readonly proportions: readonly number[]
  /** 1-based: 1 SFT, 2 reward, 3 PPO. */
  readonly step: number
  /** Share of each dataset's slice that is held back for evaluation, in [0, 1). */
  readonly evalFraction: number
  readonly seed: number
}

/** Reads "2,4,4" into numbers. `steps` is how many shares there must be. */
export function parseDataSplit(text: string, steps = 3): number[] {
  const shares = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  const valid =
    shares.length === steps && shares.every((share) => Number.isFinite(share) && share >= 0) && shares.some((share) => share > 0)
  if (!valid)
    fail(
      '--data-split',
      `${steps} numbers of at least 0, not all 0, with commas between them`,
      JSON.stringify(text),
      '--data-split 2,4,4',
    )
  return shares
}

/** Rounds to the nearest whole number, halves to the even one, as Python's round: the boundaries are then the same. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest !== 0.5) return Math.round(value)
  return below % 2 === 0 ? below : below + 1
}

/**
 * Slice boundaries [0, ..., n] of n rows: cumulative round(p_i n), the rounding excess subtracted from every
 * boundary, as DeepSpeed-Chat's get_raw_dataset_split_index does; never below 0, where that would go negative.
 */
export function splitBoundaries(n: number, proportions: readonly number[]): number[] {
  const total = proportions.reduce((sum, share) => sum + share, 0)
  const boundaries = [0]
  for (const share of proportions) boundaries.push(boundaries.at(-1)! + roundHalfEven((share / total) * n))
  const excess = boundaries.at(-1)! - n
  return boundaries.map((boundary, index) => (index === 0 ? 0 : Math.max(0, boundary - excess)))
}

/**
 * The row numbers of one dataset that one step may see, and those of its evaluation part. They depend on the number
 * of rows, the shares and the seed alone, so the three steps agree whatever other data paths each of them has.
 */
export function splitIndices(n: number, options: SplitOptions): { train: Int32Array; eval: Int32Array } {
  const { proportions, step, evalFraction, seed } = options
  if (!Number.isInteger(step) || step < 1 || step > proportions.length) {
    fail('data', `a step from 1 to ${proportions.length}`, String(step), 'one share of --data-split for each step')
  }
  if (!(evalFraction >= 0 && evalFraction < 1))
    fail('--eval-fraction', 'a number from 0 to below 1', String(evalFraction), '--eval-fraction 0.1')
  const boundaries = splitBoundaries(n, proportions)
  const permutation = seededShuffle(n, seed, streamNumber(randomPurpose.split))
  const slice = permutation.subarray(boundaries[step - 1], boundaries[step])
  const wanted = evalFraction === 0 ? 0 : Math.max(1, Math.round(slice.length * evalFraction))
  // A slice of one row trains; training never gets nothing while evaluation gets something.
  const evalRows = Math.min(wanted, Math.max(0, slice.length - 1))
  return { train: slice.slice(0, slice.length - evalRows), eval: slice.slice(slice.length - evalRows) }
}

/**
 * Takes each dataset's slice, concatenates the slices and shuffles them once; the evaluation parts likewise. Every
 * row lands in at most one of the steps' parts, and in exactly one when the steps are taken together.
 */
export function blend<T>(datasets: readonly (readonly T[])[], options: SplitOptions): { train: T[]; eval: T[] } {
  const train: T[] = []
  const held: T[] = []
  for (const rows of datasets) {
    const indices = splitIndices(rows.length, options)
    for (const index of indices.train) train.push(rows[index]!)
    for (const index of indices.eval) held.push(rows[index]!)
  }
  return {
    train: shuffled(train, options.seed, streamNumber(randomPurpose.blend)),
    eval: shuffled(held, options.seed, streamNumber(randomPurpose.evalBlend)),
  }
}

function shuffled<T>(rows: readonly T[], seed: number, stream: number): T[] {
  return Array.from(seededShuffle(rows.length, seed, stream), (index) => rows[index]!)
}
