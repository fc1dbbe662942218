// The shaped reward of PPO (InstructGPT; DeepSpeed-Chat's compute_rewards).
import { klPenalty } from './kl.js'
import type { KlEstimator } from './kl.js'

export interface ShapedRewardInput {
  /** [n] under the policy that sampled. */
  logprobs: ArrayLike<number>
  /** [n] under the reference. */
  refLogprobs: ArrayLike<number>
  /** Reward model's scalar for the whole answer. */
  score: number
  klCoef: number
  /** Clips the score to [-c, c]; 0 = off. */
  rewardClip: number
  estimator?: KlEstimator
}

/** r_t = -klCoef * KL_t, plus the clipped score at the answer's last token. [n] */
export function shapedRewards({ logprobs, refLogprobs, score, klCoef, rewardClip, estimator = 'k1' }: ShapedRewardInput): Float64Array {
  const rewards = klPenalty(logprobs, refLogprobs, estimator).map((kl) => -klCoef * kl)
  const clipped = rewardClip > 0 ? Math.min(rewardClip, Math.max(-rewardClip, score)) : score
  if (rewards.length > 0) rewards[rewards.length - 1]! += clipped
  return rewards
}
