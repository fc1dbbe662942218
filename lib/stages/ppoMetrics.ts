// What PPO reports of an experience and of an update, under the names of verl and TRL.
import type { Metrics } from '../base/run.js'
import type { Experience } from '../engine/experience.js'
import type { ActorStep, CriticStep } from '../engine/ppoUpdate.js'
import { explainedVariance } from '../rlhf/explainedVariance.js'
import type { ExperienceReading } from './alarms.js'
import { groupSpread } from '../rlhf/groupAdvantages.js'

export interface ExperienceMetrics {
  'objective/scores': number
  'objective/score_spread': number
  'objective/score_clipfrac': number
  'rewards/function': number | null
  reward_std: number | null
  frac_reward_zero_std: number | null
  'objective/kl': number
  'objective/kl_coef': number
  'objective/non_score_reward': number
  'objective/rlhf_reward': number
  'completions/mean_length': number
  'completions/std_length': number
  'completions/clipped_ratio': number
  'critic/vf_explained_var': number | null
}

export interface ExperienceOptions {
  klCoef: number
  /** False: it is in the loss. */
  klInReward: boolean
  rewardClip: number
  groupSize: number
  /** Of how scores come about. */
  rewardFunction: boolean
  /** How scores are paid, where not as they are. */
  scoreScale?: { mean: number; deviation: number } | undefined
}

/** Of all answers; `learnt` are those that are not left out of the updates. */
export function describeExperience(experience: readonly Experience[], learnt: readonly Experience[], o: ExperienceOptions): ExperienceMetrics {
  const { klCoef, klInReward, rewardClip, groupSize, rewardFunction, scoreScale: scale = { mean: 0, deviation: 1 } } = o
  const mean = (of: (e: Experience) => number): number => experience.reduce((s, e) => s + of(e), 0) / experience.length
  const scores = mean((e) => e.score)
  const kl = mean((e) => e.kl)
  const length = mean((e) => e.answer.length)
  const hasCritic = (learnt[0]?.values.length ?? 0) > 0
  const penalty = klInReward ? klCoef * kl : 0
  const spread = groupSize > 1 ? groupSpread(experience.map((e) => e.score), groupSize) : null
  return {
    'objective/scores': scores,
    'objective/score_spread': mean((e) => e.spread),
    'objective/score_clipfrac': mean((e) => (rewardClip > 0 && Math.abs((e.score - scale.mean) / scale.deviation) > rewardClip ? 1 : 0)),
    'rewards/function': rewardFunction ? mean((e) => e.functionScore ?? 0) : null,
    reward_std: spread?.std ?? null,
    frac_reward_zero_std: spread?.zeroShare ?? null,
    'objective/kl': kl,
    'objective/kl_coef': klCoef,
    'objective/non_score_reward': -penalty,
    'objective/rlhf_reward': scores - penalty,
    'completions/mean_length': length,
    'completions/std_length': Math.sqrt(mean((e) => (e.answer.length - length) ** 2)),
    'completions/clipped_ratio': mean((e) => (e.finish === 'length' ? 1 : 0)),
    'critic/vf_explained_var': hasCritic
      ? explainedVariance(
          learnt.flatMap((e) => Array.from(e.values)),
          learnt.flatMap((e) => Array.from(e.returns)),
        )
      : null,
  }
}

/** The same, as the alarms read it. */
export function readingOf(m: ExperienceMetrics): ExperienceReading {
  return {
    scores: m['objective/scores'],
    rlhfReward: m['objective/rlhf_reward'],
    kl: m['objective/kl'],
    length: m['completions/mean_length'],
    lengthStd: m['completions/std_length'],
    cut: m['completions/clipped_ratio'],
    clipped: m['objective/score_clipfrac'],
  }
}

/** `actor` is null while only the critic warms up, `critic` where there is none. */
export function describeUpdate(actor: ActorStep | null, critic: CriticStep | null): Metrics {
  return {
    loss: actor?.loss ?? null,
    'loss/policy_avg': actor?.loss ?? null,
    'loss/value_avg': critic?.loss ?? null,
    'actor/kl_loss': actor?.klLoss ?? null,
    'actor/ptx_loss': actor?.ptxLoss ?? null,
    'policy/approxkl_avg': actor?.approxKl ?? null,
    'policy/clipfrac_avg': actor?.clipFraction ?? null,
    'policy/entropy_avg': actor?.entropy ?? null,
    'val/ratio': actor?.ratioMean ?? null,
    'val/ratio_max': actor?.ratioMax ?? null,
    'val/clipfrac_avg': critic?.clipFraction ?? null,
    'actor/grad_norm': actor?.gradNorm ?? null,
    'critic/grad_norm': critic?.gradNorm ?? null,
    'actor/lr': actor?.learningRate ?? null,
    'critic/lr': critic?.learningRate ?? null,
    ...((actor ?? critic)?.lossScale != null && { 'actor/loss_scale': actor?.lossScale ?? null, 'critic/loss_scale': critic?.lossScale ?? null }),
  }
}
