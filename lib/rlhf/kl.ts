// Estimators of KL(policy || reference) from one sample per token (Schulman 2020, "Approximating KL divergence").
// With d = logprob - refLogprob of the sampled token:
//   k1 = d              unbiased, high variance; DeepSpeed-Chat's and InstructGPT's penalty
//   k2 = d^2 / 2        biased, low variance
//   k3 = e^-d - 1 + d   unbiased, never negative

export type KlEstimator = 'k1' | 'k2' | 'k3'

/** Per-token penalty [n]. */
export function klPenalty(logprobs: ArrayLike<number>, refLogprobs: ArrayLike<number>, estimator: KlEstimator): Float64Array {
  const out = new Float64Array(logprobs.length)
  for (let t = 0; t < out.length; t++) {
    const d = logprobs[t]! - refLogprobs[t]!
    out[t] = estimator === 'k1' ? d : estimator === 'k2' ? (d * d) / 2 : Math.exp(-d) - 1 + d
  }
  return out
}
