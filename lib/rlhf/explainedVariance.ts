/** 1 - Var(returns - values) / Var(returns): 1 is a perfect critic, 0 one that predicts the mean, null when returns do not vary. */
export function explainedVariance(values: ArrayLike<number>, returns: ArrayLike<number>): number | null {
  const n = returns.length
  const variance = (of: (i: number) => number): number => {
    let mean = 0
    for (let i = 0; i < n; i++) mean += of(i) / n
    let sum = 0
    for (let i = 0; i < n; i++) sum += (of(i) - mean) ** 2 / n
    return sum
  }
  const total = variance((i) => returns[i]!)
  return total > 0 ? 1 - variance((i) => returns[i]! - values[i]!) / total : null
}
