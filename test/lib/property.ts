// A property of fast-check as one assertion of ava.
import type { ExecutionContext } from 'ava'
import fc from 'fast-check'

/** Fails with the smallest counterexample. */
export function holds<T>(t: ExecutionContext, property: fc.IProperty<T>, numRuns = 100): void {
  t.notThrows(() => fc.assert(property, { numRuns }))
}
