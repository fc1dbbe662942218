// Generalised advantage estimation (Schulman et al. 2016):
//   delta_t = r_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lambda A_{t+1},   G_t = A_t + V_t
// with V and A beyond the end 0.

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
  const n = rewards.length
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

/** Advantages of several answers shifted to mean 0 and scaled to deviation 1 over all their tokens. */
export function whiten(advantages: readonly Float64Array[], epsilon = 1e-8): Float64Array[] {
  let n = 0
  let sum = 0
  for (const a of advantages) for (const x of a) (n++, (sum += x))
  const mean = sum / Math.max(n, 1)
  let squares = 0
  for (const a of advantages) for (const x of a) squares += (x - mean) ** 2
  const deviation = Math.sqrt(squares / Math.max(n, 1)) + epsilon
  return advantages.map((a) => a.map((x) => (x - mean) / deviation))
}
