// Rollouts with scores: what PPO learns from. One rollout = prompt + sampled answer + the log-probs that drew it.
import { packRows } from '../data/packing.js'
import type { PackedBatch } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import type { Decoder } from '../model/decoder.js'
import { gae, whiten } from '../rlhf/gae.js'
import { groupAdvantages } from '../rlhf/groupAdvantages.js'
import type { GroupBaseline } from '../rlhf/groupAdvantages.js'
import { klPenalty } from '../rlhf/kl.js'
import type { KlEstimator } from '../rlhf/kl.js'
import { shapedRewards } from '../rlhf/rewards.js'
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
}

export interface Experience extends Rollout {
  refLogprobs: Float32Array
  /** Critic's values before each answer token; [0] without a critic. */
  values: Float32Array
  /** Reward model's scalar at the last token and a function's score together, before clipping. */
  score: number
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
  gamma: number
  gaeLambda: number
  whitenAdvantages: boolean
}

export async function makeRollouts(actor: Decoder, prompts: readonly Prompt[], options: GenerateOptions): Promise<Rollout[]> {
  const answers = await generateAll(actor, prompts, options)
  return answers.map((a, i) => ({ prompt: prompts[i]!.ids, answer: a.ids, logprobs: a.logprobs, finish: a.finish }))
}

/** Rollouts as packed rows in which the answer's tokens count. */
export function packRollouts(rollouts: readonly Rollout[], first = 0): PackedBatch {
  return packRows(
    rollouts.map(({ prompt, answer }): TokenRow => {
      const ids = new Int32Array(prompt.length + answer.length)
      ids.set(prompt)
      ids.set(answer, prompt.length)
      return { ids, counted: new Uint8Array(ids.length).fill(1, prompt.length) }
    }),
    (b) => first + b,
  )
}

/** Cuts per-token numbers of several answers, one after another, back into answers. */
function perAnswer(flat: Float32Array, rollouts: readonly Rollout[]): Float32Array[] {
  let at = 0
  return rollouts.map((r) => flat.slice(at, (at += r.answer.length)))
}

export interface ScoringModels {
  reference: Decoder
  /** Null: the baseline is what other answers to the prompt get (GRPO, RLOO). */
  critic: Decoder | null
  /** Null: scores come from a function alone. */
  reward: Decoder | null
}

/** Reference log-probs, values and scores of one micro-batch of rollouts, and the advantages they give. */
export async function scoreRollouts(models: ScoringModels, rollouts: readonly Rollout[], temperature: number, shaping: ShapingOptions): Promise<Experience[]> {
  const batch = packRollouts(rollouts)
  const [refLogprobs, values, scores] = await Promise.all([
    scoreLogprobs(models.reference, batch, temperature),
    models.critic && scoreValues(models.critic, batch, batch.countedPositions),
    models.reward && scoreValues(models.reward, batch, lastTokens(batch)),
  ])
  const refs = perAnswer(refLogprobs, rollouts)
  const vals = values && perAnswer(values, rollouts)
  return rollouts.map((r, i) => experience(r, refs[i]!, vals?.[i] ?? null, (scores?.[i] ?? 0) + (r.functionScore ?? 0), shaping))
}

/** The shaped reward of each answer token [n]. */
export function rewardsOf({ logprobs, refLogprobs, score, finish }: Pick<Experience, 'logprobs' | 'refLogprobs' | 'score' | 'finish'>, o: ShapingOptions): Float64Array {
  return shapedRewards({ logprobs, refLogprobs, score, klCoef: o.klCoef, rewardClip: o.rewardClip, penalty: finish === 'length' ? (o.missingEosPenalty ?? 0) : 0, estimator: o.klEstimator })
}

function experience(r: Rollout, refLogprobs: Float32Array, values: Float32Array | null, score: number, o: ShapingOptions): Experience {
  const rewards = rewardsOf({ ...r, refLogprobs, score }, o)
  const kl = klPenalty(r.logprobs, refLogprobs, 'k1').reduce((sum, x) => sum + x, 0)
  if (values) return { ...r, refLogprobs, values, score, kl, ...gae({ rewards, values, gamma: o.gamma, lambda: o.gaeLambda }) }
  const whole = rewards.fill(rewards.reduce((sum, x) => sum + x, 0))
  return { ...r, refLogprobs, values: new Float32Array(0), score, kl, advantages: whole, returns: whole }
}

/** Advantages of a whole experience without a critic, `groupSize` answers to each prompt one after another. */
export function groupBaselined(experiences: readonly Experience[], groupSize: number, baseline: GroupBaseline): Experience[] {
  const own = groupAdvantages(experiences.map((e) => e.returns[0]!), groupSize, baseline)
  return experiences.map((e, i) => ({ ...e, advantages: new Float64Array(e.answer.length).fill(own[i]!) }))
}

/** Whitens the advantages of a whole experience in place of their own. */
export function whitened(experiences: Experience[]): Experience[] {
  const advantages = whiten(experiences.map((e) => e.advantages))
  return experiences.map((e, i) => ({ ...e, advantages: advantages[i]! }))
}

/** Largest |recorded - recomputed| over the answers of `rollouts`: contract 1 says 0. */
export function logprobGap(rollouts: readonly Rollout[], recomputed: Float32Array): number {
  let gap = 0
  let at = 0
  for (const { logprobs } of rollouts) for (const lp of logprobs) gap = Math.max(gap, Math.abs(lp - recomputed[at++]!))
  return gap
}
