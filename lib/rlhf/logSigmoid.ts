// The logistic function and its log without overflow at any x: only e^-|x|, at most 1, is ever formed.

/** 1 / (1 + e^-x); d/dx = sigmoid(x) sigmoid(-x). */
export function sigmoid(x: number): number {
  const e = Math.exp(-Math.abs(x))
  return x >= 0 ? 1 / (1 + e) : e / (1 + e)
}

/** log(1 / (1 + e^-x)); d/dx = sigmoid(-x). */
export function logSigmoid(x: number): number {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)))
}
