// The small statistics that decide whether a difference is more than noise, each with its source.
import { fail } from './errors.js'

/** 97.5 % point of the standard normal: two-sided 95 % intervals. */
export const normal95 = 1.959963984540054

export interface RunningState {
  count: number
  mean: number
  squares: number
}

/** Mean and spread of a stream of numbers without keeping them (Welford 1962, numerically stable). */
export class RunningSums {
  count = 0
  mean = 0
  /** Sum of squared distances from the mean. */
  #squares = 0

  add(x: number): void {
    this.count++
    const distance = x - this.mean
    this.mean += distance / this.count
    this.#squares += distance * (x - this.mean)
  }

  addAll(values: Iterable<number>): this {
    for (const x of values) this.add(x)
    return this
  }

  /** All there is to go on with. */
  get state(): RunningState {
    return { count: this.count, mean: this.mean, squares: this.#squares }
  }

  static from({ count, mean, squares }: RunningState): RunningSums {
    const sums = new RunningSums()
    sums.count = count
    sums.mean = mean
    sums.#squares = squares
    return sums
  }

  get sum(): number {
    return this.mean * this.count
  }

  /** Sample variance (n - 1); 0 below two numbers. */
  get variance(): number {
    return this.count > 1 ? this.#squares / (this.count - 1) : 0
  }

  get standardDeviation(): number {
    return Math.sqrt(this.variance)
  }

  /** Of the mean, sd / sqrt(n). Infinity below two numbers: one number says nothing about its own error. */
  get standardError(): number {
    return this.count > 1 ? this.standardDeviation / Math.sqrt(this.count) : Infinity
  }
}

/** Arithmetic mean; NaN of nothing. */
export function mean(values: Iterable<number>): number {
  const sums = new RunningSums().addAll(values)
  return sums.count === 0 ? NaN : sums.mean
}

/** Standard error of the mean, from the sample variance; Infinity below two numbers. */
export function standardError(values: Iterable<number>): number {
  return new RunningSums().addAll(values).standardError
}

/**
 * Interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001), 95 % by default: unlike p +- z se it stays within
 * [0, 1] and keeps its coverage for few trials and shares near 0 or 1. `hits` may be fractional (a tie counts half);
 * n = 0 knows nothing: [0, 1].
 */
export function wilsonInterval(hits: number, n: number, z = normal95): [low: number, high: number] {
  if (!(n >= 0 && hits >= 0 && hits <= n)) fail('Wilson interval', 'hits between 0 and the number of trials', `${hits} of ${n}`, 'counting both over the same trials')
  if (n === 0) return [0, 1]
  const p = hits / n
  const shrink = 1 + (z * z) / n
  const centre = (p + (z * z) / (2 * n)) / shrink
  const half = (z / shrink) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n))
  return [hits === 0 ? 0 : Math.max(0, centre - half), hits === n ? 1 : Math.min(1, centre + half)]
}

/**
 * Mean of a_i - b_i and its standard error, for two figures on the same items: what the items share cancels, so a
 * smaller difference shows than between two separate means.
 */
export function pairedDifference(a: ArrayLike<number>, b: ArrayLike<number>): { mean: number; standardError: number } {
  if (a.length !== b.length || a.length === 0)
    fail('paired difference', 'two figures for each of the same items, at least one', `${a.length} and ${b.length} figures`, 'measuring both on the same items')
  const sums = new RunningSums()
  for (let i = 0; i < a.length; i++) sums.add(a[i]! - b[i]!)
  return { mean: sums.mean, standardError: sums.standardError }
}
