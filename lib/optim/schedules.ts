// Learning-rate schedules, the six of transformers.get_scheduler with its defaults.

export const scheduleNames = ['linear', 'cosine', 'cosine_with_restarts', 'polynomial', 'constant', 'constant_with_warmup'] as const
export type ScheduleName = (typeof scheduleNames)[number]

export interface ScheduleInput {
  type: ScheduleName
  /** Peak learning rate. */
  baseLr: number
  /** Counted from 0, the first optimizer step. */
  step: number
  warmupSteps: number
  totalSteps: number
  /** cosine_with_restarts: hard restarts. */
  cycles?: number
}

const POLYNOMIAL_END = 1e-7

/** The learning rate of one optimizer step. */
export function learningRateAt({ type, baseLr, step, warmupSteps, totalSteps, cycles = 1 }: ScheduleInput): number {
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
      return step > totalSteps ? POLYNOMIAL_END : (baseLr - POLYNOMIAL_END) * (1 - progress) + POLYNOMIAL_END
  }
}
