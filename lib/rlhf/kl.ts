// Estimators of KL(policy || reference) from one sample per token (Schulman 2020, "Approximating KL divergence").
// With d = logprob - refLogprob of the sampled token:
//   k1 = d              unbiased, high variance; DeepSpeed-Chat's and InstructGPT's penalty;  dk1 / dlogprob = 1
//   k2 = d^2 / 2        biased, low variance;                                                 dk2 / dlogprob = d
//   k3 = e^-d - 1 + d   unbiased, never negative;                                             dk3 / dlogprob = 1 - e^-d
// In the reward they are constants; the derivatives hold where one is used as a loss.
import { checkCount, commonLength } from './checks.js'

export const klEstimators = ['k1', 'k2', 'k3'] as const
export type KlEstimator = (typeof klEstimators)[number]

/** Per-token penalty [n], in nats. */
export function klPenalty(logprobs: ArrayLike<number>, refLogprobs: ArrayLike<number>, estimator: KlEstimator): Float64Array {
  const out = new Float64Array(commonLength('KL penalty', { logprobs, refLogprobs }))
  for (let t = 0; t < out.length; t++) {
    const d = logprobs[t]! - refLogprobs[t]!
    // expm1: for small d, e^-d - 1 in two steps would lose the digits that k3 consists of.
    out[t] = estimator === 'k1' ? d : estimator === 'k2' ? (d * d) / 2 : Math.expm1(-d) + d
  }
  return out
}

/**
 * The mean estimate as a term of the loss (GRPO: Shao et al. 2024, eq. 3 and 4, with k3), and its derivative [n]. `count`:
 * answer tokens of the whole optimizer step. k1 has no place here: its derivative is 1 whatever the reference says.
 */
export function klLoss(logprobs: ArrayLike<number>, refLogprobs: ArrayLike<number>, estimator: KlEstimator, count: number): { loss: number; grad: Float64Array } {
  checkCount('KL loss', count)
  const loss = klPenalty(logprobs, refLogprobs, estimator).reduce((sum, kl) => sum + kl, 0) / count
  const grad = Float64Array.from(logprobs, (logprob, t) => {
    const d = logprob - refLogprobs[t]!
    return (estimator === 'k1' ? 1 : estimator === 'k2' ? d : -Math.expm1(-d)) / count
  })
  return { loss, grad }
}
