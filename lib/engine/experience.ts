// Rollouts with scores: what PPO learns from. One rollout = prompt + sampled answer + the log-probs that drew it.
import { packRows } from '../data/packing.js'
import type { PackedBatch } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import type { Decoder } from '../model/decoder.js'
import { ensembleScores } from '../rlhf/ensembleScores.js'
import { gae, whiten } from '../rlhf/gae.js'
import { groupAdvantages } from '../rlhf/groupAdvantages.js'
import type { GroupBaseline } from '../rlhf/groupAdvantages.js'
import { klPenalty } from '../rlhf/kl.js'
import type { KlEstimator } from '../rlhf/kl.js'
import { shapedRewards } from '../rlhf/rewards.js'
import type { ShapedRewardInput } from '../rlhf/rewards.js'
import { generateAll } from '../rollout/generate.js'
import type { GenerateOptions, Generated } from '../rollout/generate.js'
import { lastTokens, scoreLogprobs, scoreValues } from './logprobs.js'

export interface Prompt {
  ids: Int32Array
  seed: bigint
}

/** n answer tokens; every array below is [n]. */
export interface Rollout {
  prompt: Int32Array
  answer: Int32Array
  /** Recorded by the sampler. */
  logprobs: Float32Array
  finish: Generated['finish']
  /** What a user's function gives for it, a part of its score; absent without one, and after a checkpoint: nothing is learnt from it. */
  functionScore?: number
  /** 1 where a token counts in the losses; without it all do. */
  counted?: Uint8Array
}

export interface Experience extends Rollout {
  refLogprobs: Float32Array
  /** Critic's values before each answer token; [0] without a critic. */
  values: Float32Array
  /** Reward model's scalar at the last token (of an ensemble the mean less its share of the spread) and a function's score together, before clipping. */
  score: number
  /** Standard deviation of the scores of an ensemble; 0 of one model. */
  spread: number
  /** Sum over the answer of logprob - refLogprob. */
  kl: number
  /** Without a critic the answer's whole reward, until `groupBaselined` takes the baseline off. */
  advantages: Float64Array
  /** Targets of the critic; without one the answer's whole reward at each token. */
  returns: Float64Array
}

export interface ShapingOptions {
  klCoef: number
  klEstimator: KlEstimator
  rewardClip: number
  /** Taken from the score of an answer that no end token or stop text ends. */
  missingEosPenalty?: number
  /** Weight of the spread of an ensemble's scores. */
  ensembleSpreadCoef?: number
  gamma: number
  gaeLambda: number
  whitenAdvantages: boolean
  /** A score is paid as (score - mean) / deviation; as it is if absent. */
  scoreScale?: { mean: number; deviation: number } | undefined
}

export async function makeRollouts(actor: Decoder, prompts: readonly Prompt[], options: GenerateOptions): Promise<Rollout[]> {
  const answers = await generateAll(actor, prompts, options)
  return answers.map((a, i) => ({ prompt: prompts[i]!.ids, answer: a.ids, logprobs: a.logprobs, finish: a.finish }))
}

/** Prompt and answer as one row in which the answer's tokens count. */
export function answerRow({ prompt, answer }: Pick<Rollout, 'prompt' | 'answer'>): TokenRow {
  const ids = new Int32Array(prompt.length + answer.length)
  ids.set(prompt)
  ids.set(answer, prompt.length)
  return { ids, counted: new Uint8Array(ids.length).fill(1, prompt.length) }
}

/** Rollouts as packed rows in which the answers' tokens count, or those that `counted` marks. `first`: the number of the first within the optimizer step. */
export function packRollouts(rollouts: readonly Rollout[], first = 0): PackedBatch {
  return packRows(
    rollouts.map((r) => {
      const row = answerRow(r)
      if (r.counted) row.counted.set(r.counted, r.prompt.length)
      return row
    }),
    (b) => first + b,
  )
}

/** Of numbers [n] of each answer those at tokens that count, answer after answer: they stand beside packRollouts' counted positions. */
export function countedNumbers<R extends Rollout>(rollouts: readonly R[], of: (r: R) => ArrayLike<number>): Float64Array {
  return Float64Array.from(rollouts.flatMap((r) => Array.from(of(r)).filter((_, t) => r.counted?.[t] !== 0)))
}

/** Cuts per-token numbers of several answers, one after another, back into answers. */
export function perAnswer(flat: Float32Array, rollouts: readonly Rollout[]): Float32Array[] {
  let at = 0
  return rollouts.map((r) => flat.slice(at, (at += r.answer.length)))
}

export interface ScoringModels {
  reference: Decoder
  /** Null: the baseline is what other answers to the prompt get (GRPO, RLOO). */
  critic: Decoder | null
  /** Null: scores come from a function alone. */
  reward: Decoder | null
  /** Further reward models. */
  ensemble?: readonly Decoder[]
}

/** Scores at `rows` [R] and their spread over the reward models; null without one. */
export async function scoresOf({ reward, ensemble = [] }: Pick<ScoringModels, 'reward' | 'ensemble'>, batch: PackedBatch, rows: Int32Array, spreadCoef = 0): Promise<ReturnType<typeof ensembleScores> | null> {
  return reward && ensembleScores(await Promise.all([reward, ...ensemble].map((model) => scoreValues(model, batch, rows))), spreadCoef)
}

/** Reference log-probs, values and scores of one micro-batch of rollouts, and the advantages they give. */
export async function scoreRollouts(models: ScoringModels, rollouts: readonly Rollout[], temperature: number, shaping: ShapingOptions): Promise<Experience[]> {
  const batch = packRollouts(rollouts)
  const [refLogprobs, values, scored] = await Promise.all([
    scoreLogprobs(models.reference, batch, temperature),
    models.critic && scoreValues(models.critic, batch, batch.countedPositions),
    scoresOf(models, batch, lastTokens(batch), shaping.ensembleSpreadCoef),
  ])
  const refs = perAnswer(refLogprobs, rollouts)
  const vals = values && perAnswer(values, rollouts)
  return rollouts.map((r, i) => experience(r, { refLogprobs: refs[i]!, values: vals?.[i] ?? null, score: (scored?.scores[i] ?? 0) + (r.functionScore ?? 0), spread: scored?.spreads[i] ?? 0 }, shaping))
}

/** The shaped reward of each answer token [n]. */
export function rewardsOf({ logprobs, refLogprobs, score, finish }: Pick<Experience, 'logprobs' | 'refLogprobs' | 'score' | 'finish'>, o: ShapingOptions): Float64Array {
  const { mean, deviation } = o.scoreScale ?? { mean: 0, deviation: 1 }
  return shapedRewards({ logprobs, refLogprobs, score: (score - mean) / deviation, ...penaltyOf({ finish }, o) })
}

/** The experience as other shaping pays it. */
export function repaid({ advantages: _a, returns: _r, values, ...e }: Experience, o: ShapingOptions): Experience {
  return experience(e, { ...e, values: values.length > 0 ? values : null }, o)
}

function experience(r: Rollout, scored: Pick<Experience, 'refLogprobs' | 'score' | 'spread'> & { values: Float32Array | null }, o: ShapingOptions): Experience {
  const rewards = rewardsOf({ ...r, ...scored }, o)
  const { values } = scored
  const kl = klOf(r.logprobs, scored.refLogprobs)
  if (values) return { ...r, ...scored, values, kl, ...gae({ rewards, values, gamma: o.gamma, lambda: o.gaeLambda }) }
  const whole = rewards.fill(rewards.reduce((sum, x) => sum + x, 0))
  return { ...r, ...scored, values: new Float32Array(0), kl, advantages: whole, returns: whole }
}

/** Advantages of a whole experience without a critic, `groupSize` answers to each prompt one after another. */
export function groupBaselined(experiences: readonly Experience[], groupSize: number, baseline: GroupBaseline): Experience[] {
  const own = groupAdvantages(experiences.map((e) => e.returns[0]!), groupSize, baseline)
  return experiences.map((e, i) => ({ ...e, advantages: new Float64Array(e.answer.length).fill(own[i]!) }))
}

/** How an answer's score and KL are paid. */
export function penaltyOf({ finish }: Pick<Rollout, 'finish'>, { klCoef, klEstimator: estimator, rewardClip, missingEosPenalty = 0 }: ShapingOptions): Pick<ShapedRewardInput, 'klCoef' | 'rewardClip' | 'estimator' | 'penalty'> {
  return { klCoef, rewardClip, estimator, penalty: finish === 'length' ? missingEosPenalty : 0 }
}

/** Sum over an answer of logprob - refLogprob. */
export const klOf = (logprobs: ArrayLike<number>, refLogprobs: ArrayLike<number>): number => klPenalty(logprobs, refLogprobs, 'k1').reduce((sum, x) => sum + x, 0)

/** Whitens the advantages of a whole experience, those of the tokens that count, in place of their own. */
export function whitened(experiences: Experience[]): Experience[] {
  const counts = ({ counted }: Experience, t: number): boolean => counted?.[t] !== 0
  const white = whiten(experiences.map((e) => e.advantages.filter((_, t) => counts(e, t))))
  return experiences.map((e, i) => {
    let at = 0
    return { ...e, advantages: e.advantages.map((a, t) => (counts(e, t) ? white[i]![at++]! : a)) }
  })
}

/** Largest |recorded - recomputed| over the tokens of `rollouts` that count: contract 1 says 0. */
export function logprobGap(rollouts: readonly Rollout[], recomputed: Float32Array): number {
  return countedNumbers(rollouts, (r) => r.logprobs).reduce((gap, lp, i) => Math.max(gap, Math.abs(lp - recomputed[i]!)), 0)
}
