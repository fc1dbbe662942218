// Next-token loss over counted tokens, the negative log-likelihood of SFT and pretraining:
//   L = -(1 / count) sum_t logprob_t,   dL / dlogprob_t = -1 / count
// The derivative does not depend on the log-probs, so it is known before the forward pass. Tokens that do not count are
// not among the log-probs.
import { checkCount } from './checks.js'

/** Sum of -logprobs [n] / count; count = counted tokens of the whole optimizer step, so that micro-batches add up. */
export function tokenLoss(logprobs: ArrayLike<number>, count: number): number {
  checkCount('token loss', count)
  let sum = 0
  for (let t = 0; t < logprobs.length; t++) sum -= logprobs[t]!
  return sum / count
}

/** d loss / d logprobs [n], all -1 / count; fp32 because it goes to the device as it is. */
export function tokenLossGrad(n: number, count: number): Float32Array {
  checkCount('token loss', count)
  return new Float32Array(n).fill(-1 / count)
}

/** exp(loss), of a mean loss in nats per token; bounded at e^80 so that a diverged model still gives a number. */
export function perplexity(loss: number): number {
  return Math.exp(Math.min(loss, 80))
}
