// What a comparison needs beside means and shares: Student's interval, the sign test, quantiles, ratios, agreement. Pure functions on
// arrays; the means and spreads they start from are in statistics.ts.
import { fail } from './errors.js'
import { normal95 } from './statistics.js'

export type Interval = [low: number, high: number]

/**
 * 97.5 % point of Student's t with a whole number of degrees of freedom. Up to 100 the finite series of the distribution is
 * inverted by bisection (Abramowitz and Stegun 26.7.3 and 26.7.4), beyond that Cornish and Fisher's expansion is exact to 1e-9
 * (26.7.5).
 */
export function student95(freedom: number): number {
  if (!Number.isInteger(freedom) || freedom < 1) fail("Student's t", 'a whole number of degrees of freedom from 1', String(freedom), 'at least two figures')
  if (freedom > 100) {
    const z = normal95
    const terms = [(z ** 3 + z) / 4, (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96, (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384, (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160]
    return terms.reduce((sum, term, i) => sum + term / freedom ** (i + 1), z)
  }
  let [low, high] = [0, 16]
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (centralShare(middle, freedom) < 0.95) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** P(|T| < t). */
function centralShare(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom))
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)]
  const odd = freedom % 2 === 1
  let term = odd ? cosine : 1
  let sum = odd && freedom === 1 ? 0 : term
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= (cosine * cosine * (k - 1)) / k
    sum += term
  }
  return odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum
}

/** 95 % interval of a mean of n figures from its standard error, Student's t (1908); null below two figures, which tell no spread. */
export function studentInterval(mean: number, standardError: number, n: number): Interval | null {
  if (n < 2) return null
  const half = student95(n - 1) * standardError
  return [mean - half, mean + half]
}

/**
 * Two-sided exact sign test (Dixon and Mood 1946): how likely a split of wins and losses at least this uneven is when both are
 * equally likely. Ties say nothing and are left out. 1 without a win or a loss.
 */
export function signTest(wins: number, losses: number): number {
  for (const count of [wins, losses]) if (!Number.isInteger(count) || count < 0) fail('sign test', 'whole numbers of wins and losses', `${wins} and ${losses}`, 'leaving ties out')
  const n = wins + losses
  const few = Math.min(wins, losses)
  // ln of C(n, k) / 2^n, from k = 0 up: 2^-n alone would underflow beyond a thousand
  let logTerm = -n * Math.LN2
  let tail = Math.exp(logTerm)
  for (let k = 1; k <= few; k++) {
    logTerm += Math.log((n - k + 1) / k)
    tail += Math.exp(logTerm)
  }
  return Math.min(1, 2 * tail)
}

/** The q-quantile, linear between neighbours (type 7 of Hyndman and Fan 1996, as in NumPy); NaN of nothing. */
export function quantile(values: Iterable<number>, q: number): number {
  const sorted = Float64Array.from(values).sort()
  const at = q * (sorted.length - 1)
  const below = sorted[Math.floor(at)] ?? NaN
  return below + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] ?? NaN) - below)
}

/**
 * Ratio of two sums over n groups, such as loss per token over rows, and its standard error (Cochran 1977, Sampling Techniques,
 * equation 6.13 without the finite correction): what lies in one group is not independent, so a row counts as one observation
 * however many tokens it has. Infinity below two groups; a ratio of NaN where the counts are all 0.
 */
export function ratioOfSums(sums: ArrayLike<number>, counts: ArrayLike<number>): { ratio: number; standardError: number } {
  const n = sums.length
  if (counts.length !== n) fail('ratio of sums', 'a count for each sum', `${counts.length} counts, ${n} sums`, 'one of both for each group')
  let sum = 0
  let count = 0
  for (let i = 0; i < n; i++) {
    sum += sums[i]!
    count += counts[i]!
  }
  const ratio = sum / count
  let squares = 0
  for (let i = 0; i < n; i++) squares += (sums[i]! - ratio * counts[i]!) ** 2
  return { ratio, standardError: n < 2 ? Infinity : Math.sqrt((n / (n - 1)) * squares) / count }
}

export interface Kappa {
  /** Share of items on which both agree. */
  agreement: number
  /** Agreement beyond chance: 1 = always, 0 = as chance gives; null where both use one and the same category alone. */
  kappa: number | null
  standardError: number | null
  interval: Interval | null
}

/**
 * Cohen's kappa (1960) of two judges from the counts of their categories [C, C] (row: the first judge's, column: the second's), with
 * its large-sample standard error (Fleiss, Cohen and Everitt 1969) and 95 % interval.
 */
export function cohenKappa(counts: readonly (readonly number[])[]): Kappa {
  const n = counts.flat().reduce((a, b) => a + b, 0)
  if (n === 0 || counts.some((row) => row.length !== counts.length)) fail("Cohen's kappa", 'a square table of counts with an item in it', `${n} items in ${counts.length} rows`, 'judges who saw the same items')
  const share = counts.map((row) => row.map((count) => count / n))
  const first = share.map((row) => row.reduce((a, b) => a + b, 0))
  const second = share.map((_, j) => share.reduce((sum, row) => sum + row[j]!, 0))
  const agreed = share.reduce((sum, row, i) => sum + row[i]!, 0)
  const chance = first.reduce((sum, p, i) => sum + p * second[i]!, 0)
  // one category alone: exactly 1 but for rounding
  if (1 - chance < 1e-12) return { agreement: agreed, kappa: null, standardError: null, interval: null }
  const kappa = (agreed - chance) / (1 - chance)
  let spread = -((agreed * chance - 2 * chance + agreed) ** 2)
  for (const [i, row] of share.entries())
    for (const [j, p] of row.entries()) {
      if (i === j) spread += p * (1 - chance - (second[i]! + first[i]!) * (1 - agreed)) ** 2
      else spread += (1 - agreed) ** 2 * p * (second[i]! + first[j]!) ** 2
    }
  const standardError = Math.sqrt(Math.max(0, spread) / n) / (1 - chance) ** 2
  return { agreement: agreed, kappa, standardError, interval: [Math.max(-1, kappa - normal95 * standardError), Math.min(1, kappa + normal95 * standardError)] }
}
