import { commonLength } from './checks.js'

/** Population variance, in two passes. */
function variance(n: number, of: (i: number) => number): number {
  let sum = 0
  for (let i = 0; i < n; i++) sum += of(i)
  const mean = sum / n
  let squares = 0
  for (let i = 0; i < n; i++) squares += (of(i) - mean) ** 2
  return squares / n
}

/**
 * 1 - Var(returns - values) / Var(returns), as OpenAI baselines' explained_variance: 1 is a perfect critic, 0 one that
 * predicts a constant, below 0 one that is worse than that. Null when returns do not vary: there is nothing to explain.
 */
export function explainedVariance(values: ArrayLike<number>, returns: ArrayLike<number>): number | null {
  const n = commonLength('explained variance', { values, returns })
  const total = variance(n, (i) => returns[i]!)
  return total > 0 ? 1 - variance(n, (i) => returns[i]! - values[i]!) / total : null
}
