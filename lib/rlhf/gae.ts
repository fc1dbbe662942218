// Generalised advantage estimation (Schulman et al. 2016, eq. 16; DeepSpeed-Chat's get_advantages_and_returns):
//   delta_t = r_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lambda A_{t+1},   G_t = A_t + V_t
// with V and A beyond the end 0. Advantages and returns are targets: no gradient flows through them.
import { commonLength } from './checks.js'

export interface GaeInput {
  /** [n] */
  rewards: ArrayLike<number>
  /** [n] critic's values before each token. */
  values: ArrayLike<number>
  gamma: number
  lambda: number
}

/** Advantages and returns [n] of one answer. */
export function gae({ rewards, values, gamma, lambda }: GaeInput): { advantages: Float64Array; returns: Float64Array } {
  const n = commonLength('advantages', { rewards, values })
  const advantages = new Float64Array(n)
  const returns = new Float64Array(n)
  let next = 0
  for (let t = n - 1; t >= 0; t--) {
    const delta = rewards[t]! + gamma * (t + 1 < n ? values[t + 1]! : 0) - values[t]!
    next = delta + gamma * lambda * next
    advantages[t] = next
    returns[t] = next + values[t]!
  }
  return { advantages, returns }
}

/**
 * Advantages of several answers shifted to mean 0 and scaled to deviation 1 over all their tokens:
 * (A - mean) / sqrt(variance + epsilon), with the sample variance (n - 1), as TRL's masked_whiten. Give it the whole
 * experience, not a micro-batch: statistics of parts do not add up. DeepSpeed-Chat does not whiten.
 */
export function whiten(advantages: readonly Float64Array[], epsilon = 1e-8): Float64Array[] {
  let n = 0
  let sum = 0
  for (const answer of advantages) {
    n += answer.length
    for (const x of answer) sum += x
  }
  const mean = sum / Math.max(n, 1)
  let squares = 0
  for (const answer of advantages) for (const x of answer) squares += (x - mean) ** 2
  const scale = 1 / Math.sqrt(squares / Math.max(n - 1, 1) + epsilon)
  return advantages.map((answer) => answer.map((x) => (x - mean) * scale))
}
