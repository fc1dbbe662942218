// Learning-rate schedules, the six of transformers.get_scheduler with its defaults (optimization.py).
import { fail } from '../base/errors.js'

export const scheduleNames = ['linear', 'cosine', 'cosine_with_restarts', 'polynomial', 'constant', 'constant_with_warmup'] as const
export type ScheduleName = (typeof scheduleNames)[number]

export interface ScheduleInput {
  type: ScheduleName
  /** Peak learning rate. */
  baseLr: number
  /** Counted from 0, the first optimizer step. */
  step: number
  /** Steps of linear rise from 0; `constant` has none. */
  warmupSteps: number
  /** Optimizer steps of the whole run, warm-up included. */
  totalSteps: number
  /** cosine_with_restarts: hard restarts. */
  cycles?: number
}

/** The rate at which `polynomial` (power 1) ends; a constant, not a share of the peak. */
const polynomialEnd = 1e-7

/**
 * The learning rate of one optimizer step. With p = (step - warmup) / (total - warmup), after the warm-up:
 * linear baseLr (1 - p); cosine baseLr (1 + cos(pi p)) / 2; cosine_with_restarts the same of `cycles` p modulo 1;
 * polynomial from baseLr straight to 1e-7. As in transformers the first step of a warm-up has rate 0, and cosine rises
 * again beyond its end.
 */
export function learningRateAt({ type, baseLr, step, warmupSteps, totalSteps, cycles = 1 }: ScheduleInput): number {
  if (type === 'polynomial' && !(baseLr > polynomialEnd))
    fail('learning rate', `a peak above ${polynomialEnd}, where the polynomial schedule ends`, String(baseLr), 'another schedule or a higher rate')
  if (type === 'constant') return baseLr
  if (step < warmupSteps) return (baseLr * step) / Math.max(1, warmupSteps)
  const span = Math.max(1, totalSteps - warmupSteps)
  const progress = (step - warmupSteps) / span
  switch (type) {
    case 'constant_with_warmup':
      return baseLr
    case 'linear':
      return baseLr * Math.max(0, (totalSteps - step) / span)
    case 'cosine':
      return baseLr * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)))
    case 'cosine_with_restarts':
      return progress >= 1 ? 0 : baseLr * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * progress) % 1))))
    case 'polynomial':
      return step > totalSteps ? polynomialEnd : (baseLr - polynomialEnd) * (1 - progress) + polynomialEnd
    default:
      return fail('learning rate', `one of ${scheduleNames.join(', ')}`, String(type), 'one of these names')
  }
}
