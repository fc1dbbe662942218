// Next-token loss over counted tokens: L = -(1 / count) sum_t logprob_t, so dL / dlogprob_t = -1 / count, known before
// the forward pass.

/** Sum of -logprobs / count. */
export function tokenLoss(logprobs: ArrayLike<number>, count: number): number {
  let sum = 0
  for (let t = 0; t < logprobs.length; t++) sum -= logprobs[t]!
  return sum / count
}

/** d loss / d logprobs [n], all -1 / count. */
export function tokenLossGrad(n: number, count: number): Float32Array {
  return new Float32Array(n).fill(-1 / count)
}

/** exp(loss), bounded so that a diverged model still gives a number. */
export function perplexity(loss: number): number {
  return Math.exp(Math.min(loss, 80))
}
