// Measures shared by the formula tests. Each returns a number, so that a test can also show that it grows for a wrong answer.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { RandomSequence } from '../../../lib/base/random.js'

/** Bound against the oracle's float64 answers. */
export const oracleTolerance = 1e-6
/** Bound of a central difference with step 1e-6 in float64. */
export const slopeTolerance = 1e-6
/** Bound of a sum cut into parts. */
export const splitTolerance = 1e-12

export type FormulaCases = Record<string, Array<Record<string, number[]> & Record<string, number>>>

/** test/fixtures/formulas/<name>.json, made by test/oracle. */
export function formulaFixture<T>(name: string): T {
  return JSON.parse(readFileSync(fileURLToPath(new URL(`../../fixtures/formulas/${name}.json`, import.meta.url)), 'utf8')) as T
}

/** Largest |a - b| / max(1, |b|); Infinity for unequal lengths or anything not finite. */
export function gap(actual: number | ArrayLike<number>, expected: number | ArrayLike<number>): number {
  const a = typeof actual === 'number' ? [actual] : Array.from(actual)
  const b = typeof expected === 'number' ? [expected] : Array.from(expected)
  if (a.length !== b.length) return Infinity
  let largest = 0
  for (const [i, x] of a.entries()) {
    const difference = Math.abs(x - b[i]!) / Math.max(1, Math.abs(b[i]!))
    if (!Number.isFinite(difference)) return Infinity
    largest = Math.max(largest, difference)
  }
  return largest
}

/** Normal numbers (Box-Muller) from one stream. */
export function normals(random: RandomSequence, n: number, scale = 1, mean = 0): Float64Array {
  return Float64Array.from({ length: n }, () => mean + scale * Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform()))
}

/** Seeded streams for `cases` random cases of one test. */
export function randomCases(cases: number, seed: number): RandomSequence[] {
  return Array.from({ length: cases }, (_, i) => new RandomSequence(seed, i))
}

/** d f / d x by central differences, coordinate by coordinate. */
export function slopes(f: (x: Float64Array) => number, x: Float64Array, step = 1e-6): Float64Array {
  return x.map((value, i) => {
    const at = (moved: number): number => f(x.map((v, j) => (j === i ? moved : v)))
    return (at(value + step) - at(value - step)) / (2 * step)
  })
}

/** The gradient agrees with the slopes of the loss, and the same comparison refuses it halved, negated and shifted by a place. */
export function assertSlopes(t: ExecutionContext, f: (x: Float64Array) => number, x: Float64Array, grad: Float64Array): void {
  const measured = slopes(f, x)
  t.true(gap(grad, measured) < slopeTolerance, `gap ${gap(grad, measured)}`)
  if (!measured.some((g) => Math.abs(g) > 1e-4)) return
  t.true(gap(grad.map((g) => g / 2), measured) > slopeTolerance, 'halved')
  t.true(gap(grad.map((g) => -g), measured) > slopeTolerance, 'negated')
  t.true(gap(Float64Array.of(0, ...grad), measured) > slopeTolerance, 'one number too many')
}

/** Cuts [0, n) into between 2 and 4 parts, some of them possibly empty. */
export function randomCuts(random: RandomSequence, n: number): Array<[from: number, to: number]> {
  const inner = Array.from({ length: 1 + random.below(3) }, () => random.below(n + 1)).sort((a, b) => a - b)
  return [0, ...inner].map((from, i) => [from, inner[i] ?? n])
}
