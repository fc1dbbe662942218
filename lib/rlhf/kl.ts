// Estimators of KL(policy || reference) from one sample per token (Schulman 2020, "Approximating KL divergence").
// With d = logprob - refLogprob of the sampled token:
//   k1 = d              unbiased, high variance; DeepSpeed-Chat's and InstructGPT's penalty;  dk1 / dlogprob = 1
//   k2 = d^2 / 2        biased, low variance;                                                 dk2 / dlogprob = d
//   k3 = e^-d - 1 + d   unbiased, never negative;                                             dk3 / dlogprob = 1 - e^-d
// In the reward they are constants; the derivatives hold where one is used as a loss.
import { commonLength } from './checks.js'

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
