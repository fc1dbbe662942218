import test from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import type { ScheduleName } from '../../../lib/optim/schedules.js'
import { learningRateAt, scheduleNames } from '../../../lib/optim/schedules.js'
import { formulaFixture, gap } from '../rlhf/support.js'

interface Case {
  name: ScheduleName
  warmupSteps: number
  totalSteps: number
  numCycles?: number
  /** Of the peak rate, at steps 0, 1, 2, ... and a few beyond the end. */
  multipliers: number[]
}
const { baseLr, cases } = formulaFixture<{ baseLr: number; cases: Case[] }>('schedules')

/** Multipliers, so that `gap` compares numbers near 1. */
function ours(c: Case, shift = 0): number[] {
  const cycles = c.name === 'cosine_with_restarts' ? c.numCycles : undefined
  return c.multipliers.map((_, step) => learningRateAt({ type: c.name, baseLr, step: step + shift, warmupSteps: c.warmupSteps, totalSteps: c.totalSteps, cycles }) / baseLr)
}

test('all six schedules are those of transformers, step by step and beyond the end', (t) => {
  t.deepEqual([...new Set(cases.map((c) => c.name))].sort(), [...scheduleNames].sort())
  for (const c of cases) t.true(gap(ours(c), c.multipliers) < 1e-6, `${c.name}, warm-up ${c.warmupSteps} of ${c.totalSteps}`)
})

test('the comparison refuses a schedule that is one step off, another cycle count and another kind', (t) => {
  const long = cases.filter((c) => c.totalSteps === 33 && c.warmupSteps === 4)
  t.is(long.length, 7)
  for (const c of long) {
    if (c.name !== 'constant') t.true(gap(ours(c, 1), c.multipliers) > 1e-6, `${c.name} counted from 1`)
    for (const name of scheduleNames) {
      const same = name === c.name || (c.numCycles === 1 && name === 'cosine') || (c.name === 'cosine' && name === 'cosine_with_restarts')
      if (!same) t.true(gap(ours({ ...c, name, numCycles: 1 }), c.multipliers) > 1e-6, `${name} for ${c.name}`)
    }
  }
  const restarts = long.find((c) => c.numCycles === 3)!
  t.true(gap(ours({ ...restarts, numCycles: 2 }), restarts.multipliers) > 1e-6)
})

test('a polynomial schedule whose peak is not above its end, and an unknown name, are refused', (t) => {
  const base = { step: 0, warmupSteps: 0, totalSteps: 10 }
  t.throws(() => learningRateAt({ ...base, type: 'polynomial', baseLr: 1e-7 }), { instanceOf: ThreefoldError, message: /expected a peak above 1e-7/ })
  t.is(learningRateAt({ ...base, type: 'linear', baseLr: 1e-7 }), 1e-7)
  const unknown = 'cosin' as ScheduleName
  t.throws(() => learningRateAt({ ...base, type: unknown, baseLr: 1 }), { instanceOf: ThreefoldError, message: /expected one of linear, .*received cosin/ })
})
