// The shaped reward of PPO (InstructGPT, Ouyang et al. 2022, eq. 2; DeepSpeed-Chat's compute_rewards).
import { fail } from '../base/errors.js'
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
  /** Taken from the clipped score; 0 without. */
  penalty?: number
  estimator?: KlEstimator
}

/**
 * r_t = -klCoef * KL_t, plus the clipped score at the answer's last token. [n], n >= 1: a score needs a token to land on.
 *
 * DeepSpeed-Chat masks tokens equal to the padding token, so with EOS = PAD its score falls on a token that does not
 * count (paddedRewards.ts). Here an answer is exactly its n sampled tokens, the closing EOS among them, and the score lands
 * on the last.
 */
export function shapedRewards({ logprobs, refLogprobs, score, klCoef, rewardClip, penalty = 0, estimator = 'k1' }: ShapedRewardInput): Float64Array {
  const rewards = klPenalty(logprobs, refLogprobs, estimator).map((kl) => -klCoef * kl)
  if (rewards.length === 0) fail('shaped rewards', 'an answer of at least one token', 'an empty answer', 'leaving the answer out')
  rewards[rewards.length - 1]! += clippedScore({ score, rewardClip, penalty })
  return rewards
}

/** What an answer is paid for its score. */
export function clippedScore({ score, rewardClip, penalty = 0 }: Pick<ShapedRewardInput, 'score' | 'rewardClip' | 'penalty'>): number {
  return (rewardClip > 0 ? Math.min(rewardClip, Math.max(-rewardClip, score)) : score) - penalty
}
