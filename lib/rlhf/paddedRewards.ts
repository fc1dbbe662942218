// Shaped rewards and values as DeepSpeed-Chat has them (compute_rewards and what follows it in its PPO trainer), over the A
// steps of a padded answer. Step i draws token i of the answer; mask_i = 0 where that token is padding, n = sum mask:
//   R_i = -klCoef KL_i for every i, padding included;  R_min(n, A - 1) += clip(score);  R_i = V_i = 0 for i > n
// With end token = padding the score so lands on the end token, which does not count; with another end token on the first
// padding behind it, or on the last step where there is none. It reaches the counted steps through the advantages.
import { commonLength } from './checks.js'
import { clippedScore } from './rewards.js'
import type { ShapedRewardInput } from './rewards.js'
import { klPenalty } from './kl.js'

export interface PaddedRewardInput extends ShapedRewardInput {
  /** [A] 1 where the token is no padding. */
  mask: ArrayLike<number>
  /** [A] critic's values before each token. */
  values: ArrayLike<number>
}

/** Rewards and values [A], A >= 1: what gae() takes. Losses then run over the steps whose mask is 1. */
export function paddedRewards({ mask, values, logprobs, refLogprobs, klCoef, estimator = 'k1', ...score }: PaddedRewardInput): { rewards: Float64Array; values: Float64Array } {
  const steps = commonLength('padded rewards', { mask, values, logprobs, refLogprobs })
  const counted = Array.from(mask).reduce((sum, m) => sum + m, 0)
  const rewards = klPenalty(logprobs, refLogprobs, estimator).map((kl) => -klCoef * kl)
  rewards[Math.min(counted, steps - 1)]! += clippedScore(score)
  return { rewards: rewards.fill(0, counted + 1), values: Float64Array.from(values).fill(0, counted + 1) }
}

/** Where the score is read: the position before the first padding token of the answer, in positions of the whole row. */
export function scorePosition(promptLength: number, answer: ArrayLike<number>, padId: number): number {
  const first = Array.from(answer).indexOf(padId)
  return promptLength + (first < 0 ? answer.length : first) - 1
}
