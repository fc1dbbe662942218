// Advantages without a critic: the answers to one prompt are each other's baseline. With rewards R_1 .. R_K of a group:
//   RLOO            A_i = R_i - mean of the other K - 1                  Ahmadian et al. 2024, "Back to Basics", after Kool et al. 2019
//   GRPO            A_i = (R_i - mean) / (std + 1e-4)                    Shao et al. 2024, "DeepSeekMath", 4.1.2; std of the
//                                                                        sample (K - 1) and the 1e-4 as in TRL
//   GRPO, unscaled  A_i = R_i - mean                                     Liu et al. 2025, "Dr. GRPO": no bias towards prompts
//                                                                        whose answers are nearly alike
// Every token of answer i has A_i. Constants: no gradient flows through them.
import { fail } from '../base/errors.js'
import { RunningSums } from '../base/statistics.js'

export const groupBaselines = ['leaveOneOut', 'scaled', 'unscaled'] as const
export type GroupBaseline = (typeof groupBaselines)[number]

const epsilon = 1e-4

/** Advantages [n] of n answers, K = groupSize of each prompt one after another. Error: n that is no multiple of K, K below 2. */
export function groupAdvantages(rewards: ArrayLike<number>, groupSize: number, baseline: GroupBaseline): Float64Array {
  const out = new Float64Array(rewards.length)
  for (const [start, sums] of groups(rewards, groupSize)) {
    for (let i = start; i < start + groupSize; i++) {
      const off = rewards[i]! - sums.mean
      out[i] = baseline === 'leaveOneOut' ? (off * groupSize) / (groupSize - 1) : baseline === 'scaled' ? off / (sums.standardDeviation + epsilon) : off
    }
  }
  return out
}

/** Mean deviation of rewards within a group, and the share of groups in which all are alike, which teach nothing. */
export function groupSpread(rewards: ArrayLike<number>, groupSize: number): { std: number; zeroShare: number } {
  const spreads = groups(rewards, groupSize).map(([, sums]) => sums.standardDeviation)
  return { std: spreads.reduce((s, x) => s + x, 0) / spreads.length, zeroShare: spreads.filter((x) => x === 0).length / spreads.length }
}

function groups(rewards: ArrayLike<number>, groupSize: number): [start: number, sums: RunningSums][] {
  const n = rewards.length
  if (!(groupSize >= 2) || n === 0 || n % groupSize !== 0) fail('group advantages', 'whole groups of at least 2 answers', `${n} answers in groups of ${groupSize}`, 'passing all answers to each prompt')
  return Array.from({ length: n / groupSize }, (_, g) => {
    const own = Array.from({ length: groupSize }, (_, i) => rewards[g * groupSize + i]!)
    return [g * groupSize, new RunningSums().addAll(own)]
  })
}
