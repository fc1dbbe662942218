/**
 * `--data-split 2,4,4`: which of the three steps may see a row, and whether it is held out. Both follow from the seed and
 * the row's place in its set alone, so a set that grows at its end moves no row that was there before.
 *
 * The place i becomes the point frac(i / phi + offset(seed)) of [0, 1), a Kronecker (Weyl) sequence: its points lie so
 * evenly that every interval gets its share of the first n, to within a few rows for any n. A step's share is an interval;
 * the end of it is held out.
 * Sources: Weyl, "Ueber die Gleichverteilung von Zahlen mod. Eins" (1916); in 32 bits it is the Fibonacci hashing of Knuth,
 * The Art of Computer Programming, vol. 3, section 6.4.
 */
import { UsageError, fail } from '../base/errors.js'
import { RandomSequence, randomPurpose, seededShuffle, streamNumber } from '../base/random.js'

export interface SplitOptions {
  /** Shares of the steps, in any unit: [2, 4, 4]. [1] gives everything to step 1. */
  readonly proportions: readonly number[]
  /** 1-based: 1 SFT, 2 reward, 3 PPO. */
  readonly step: number
  /** Share of the step's part that is held back for evaluation, in [0, 1). */
  readonly evalFraction: number
  readonly seed: number
  /** How often each training row is seen in an epoch (1); 0.5: half of the rows, 2: each row twice. */
  readonly weight?: number
}

/** What becomes of the row at a place of its set: so many copies for training, or held out; else it is another step's. */
export type SplitRule = (index: number) => { readonly copies: number; readonly held: boolean }

/** 2^32 / phi, odd, so that the points of 2^32 rows are all different. */
const golden = 0x9e3779b9
const whole = 2 ** 32

function numbersIn(text: string): number[] {
  return text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
}

const usable = (numbers: readonly number[], count: number): boolean =>
  numbers.length === count && numbers.every((number) => Number.isFinite(number) && number >= 0) && numbers.some((number) => number > 0)

/** Reads "2,4,4" into numbers. `steps` is how many shares there must be. */
export function parseDataSplit(text: string, steps = 3): number[] {
  const shares = numbersIn(text)
  if (!usable(shares, steps)) throw new UsageError('--data-split', `${steps} numbers of at least 0, not all 0, with commas between them`, JSON.stringify(text), '--data-split 2,4,4')
  return shares
}

/** Reads "1,0.5" into one weight for each data path; null gives each the weight 1. */
export function parseDataWeights(text: string | null, paths: number): number[] {
  if (text === null) return Array<number>(paths).fill(1)
  const weights = numbersIn(text)
  if (!usable(weights, paths)) {
    const example = Array.from({ length: paths }, (_, i) => (i === 0 ? '1' : '0.5')).join(',')
    fail('--data-weights', `${paths} number${paths === 1 ? '' : 's'} of at least 0, not all 0, one for each data path`, JSON.stringify(text), `--data-weights ${example}`)
  }
  return weights
}

/** The rule for one set. Errors: a step without a share, a fraction outside [0, 1). */
export function splitRule({ proportions, step, evalFraction, seed, weight = 1 }: SplitOptions): SplitRule {
  if (!Number.isInteger(step) || step < 1 || step > proportions.length) {
    fail('data', `a step from 1 to ${proportions.length}`, String(step), 'one share of --data-split for each step')
  }
  if (!(evalFraction >= 0 && evalFraction < 1)) fail('--eval-fraction', 'a number from 0 to below 1', String(evalFraction), '--eval-fraction 0.1')
  const total = proportions.reduce((sum, share) => sum + share, 0)
  const boundary = (steps: number): number => Math.round((proportions.slice(0, steps).reduce((sum, share) => sum + share, 0) / total) * whole)
  const start = boundary(step - 1)
  const end = boundary(step)
  const heldStart = end - Math.round((end - start) * evalFraction)
  // of a weight of 1.5, the rows of the first half of the interval are seen twice
  const copies = Math.floor(weight)
  const moreEnd = start + (weight - copies) * (heldStart - start)
  const offset = new RandomSequence(seed, streamNumber(randomPurpose.split)).word()
  return (index) => {
    const point = (Math.imul(index, golden) + offset) >>> 0
    if (point < start || point >= end) return { copies: 0, held: false }
    return point >= heldStart ? { copies: 0, held: true } : { copies: copies + (point < moreEnd ? 1 : 0), held: false }
  }
}

/** An order of the n rows of all sets that depends on how many they are and on the seed. */
export function blendedOrder(n: number, seed: number, part: 'train' | 'held'): Int32Array {
  return seededShuffle(n, seed, streamNumber(part === 'train' ? randomPurpose.blend : randomPurpose.evalBlend))
}
