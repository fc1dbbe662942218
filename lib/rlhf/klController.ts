// The adaptive KL controller (Ziegler et al. 2019, "Fine-tuning language models from human preferences", section 2.2):
//   e = clip(KL / target - 1, -0.2, 0.2)
//   klCoef <- klCoef (1 + e samples / horizon)

export interface KlControl {
  /** Mean KL from the reference, nats per answer. */
  kl: number
  target: number
  /** Answers over which the coefficient may change by a factor of at most 1.2. */
  horizon: number
  /** Answers that `kl` is the mean of. */
  samples: number
}

/** The coefficient for the next experience. */
export function nextKlCoef(klCoef: number, { kl, target, horizon, samples }: KlControl): number {
  const error = Math.min(0.2, Math.max(-0.2, kl / target - 1))
  return klCoef * (1 + (error * samples) / horizon)
}
