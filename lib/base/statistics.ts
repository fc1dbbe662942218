// Small statistics with their sources.

/** Mean and spread of a stream of numbers (Welford 1962). */
export class RunningSums {
  count = 0
  mean = 0
  #m2 = 0

  add(x: number): void {
    this.count++
    const d = x - this.mean
    this.mean += d / this.count
    this.#m2 += d * (x - this.mean)
  }

  /** Sample variance; 0 below two numbers. */
  get variance(): number {
    return this.count > 1 ? this.#m2 / (this.count - 1) : 0
  }

  /** Of the mean. */
  get standardError(): number {
    return Math.sqrt(this.variance / Math.max(this.count, 1))
  }
}

/** 95 % interval of a proportion (Wilson 1927). `hits` may be fractional (ties count half). */
export function wilsonInterval(hits: number, n: number, z = 1.96): [number, number] {
  if (n === 0) return [0, 1]
  const p = hits / n
  const centre = (p + (z * z) / (2 * n)) / (1 + (z * z) / n)
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n))
  return [Math.max(0, centre - half), Math.min(1, centre + half)]
}

/** Mean of a_i - b_i and its standard error, for two figures on the same items. */
export function pairedDifference(a: readonly number[], b: readonly number[]): { mean: number; standardError: number } {
  const sums = new RunningSums()
  for (const [i, x] of a.entries()) sums.add(x - b[i]!)
  return { mean: sums.mean, standardError: sums.standardError }
}
