// Rollouts to experience as DeepSpeed-Chat does (`--compat deepspeed-chat`): an answer is padded to the longest of its
// generation batch, tokens equal to the padding do not count, and an answer of at most one other token teaches nothing.
// The formulas are lib/rlhf/paddedRewards.ts; padding beyond the one step that they need changes nothing and is not made.
import type { TokenRow } from '../data/records.js'
import { packRows } from '../data/packing.js'
import type { Decoder } from '../model/decoder.js'
import { gae } from '../rlhf/gae.js'
import { paddedRewards, scorePosition } from '../rlhf/paddedRewards.js'
import type { Experience, Rollout, ScoringModels, ShapingOptions } from './experience.js'
import { answerRow, klOf, penaltyOf, perAnswer, scoresOf } from './experience.js'
import { scoreLogprobs, scoreValues } from './logprobs.js'

export interface PaddedRollout extends Rollout {
  /** Tokens of the longest answer of the generation batch. */
  width: number
}

/** Rollouts in generation batches of `size`. */
export function withWidths(rollouts: readonly Rollout[], size: number): PaddedRollout[] {
  return rollouts.map((r, i) => {
    const first = i - (i % size)
    return { ...r, width: Math.max(...rollouts.slice(first, first + size).map(({ answer }) => answer.length)) }
  })
}

export type PaddedModels = ScoringModels & { actor: Decoder; critic: Decoder; reward: Decoder }

/** As scoreRollouts; `counted` marks the tokens of an answer that its losses run over. */
export async function scorePadded(models: PaddedModels, rollouts: readonly PaddedRollout[], padId: number, temperature: number, shaping: ShapingOptions): Promise<Experience[]> {
  const masks = rollouts.map(({ answer }) => Uint8Array.from(answer, (id) => (id === padId ? 0 : 1)))
  // the score lands behind an answer without padding of its own, where its batch has room
  const longer = rollouts.map((r, i) => (masks[i]!.includes(0) || r.answer.length === r.width ? r : { ...r, answer: Int32Array.of(...r.answer, padId) }))
  const batch = packRows(longer.map(answerRow))
  const ends = Int32Array.from(longer, ({ prompt, answer }, i) => batch.starts[i]! + scorePosition(prompt.length, answer, padId))
  const [refLogprobs, values, scored, padLogprobs] = await Promise.all([
    scoreLogprobs(models.reference, batch, temperature),
    scoreValues(models.critic, batch, batch.countedPositions),
    scoresOf(models, batch, ends, shaping.ensembleSpreadCoef),
    lastLogprobs(models.actor, longer.filter((r, i) => r !== rollouts[i]).map(answerRow), temperature),
  ])
  const { scores, spreads } = scored!
  const [refs, vals] = [perAnswer(refLogprobs, longer), perAnswer(values, longer)]
  let padded = 0
  return rollouts.map((r, i) => {
    const n = r.answer.length
    const grown = longer[i] !== r
    const steps = {
      mask: grown ? Uint8Array.of(...masks[i]!, 0) : masks[i]!,
      logprobs: grown ? Float32Array.of(...r.logprobs, padLogprobs[padded++]!) : r.logprobs,
      refLogprobs: refs[i]!,
      values: vals[i]!,
    }
    const shaped = paddedRewards({ ...steps, ...penaltyOf(r, shaping), score: scores[i]! })
    const { advantages, returns } = gae({ ...shaped, gamma: shaping.gamma, lambda: shaping.gaeLambda })
    const refLogprobsOf = refs[i]!.slice(0, n)
    const { width: _w, ...rollout } = r
    return {
      ...rollout,
      refLogprobs: refLogprobsOf,
      values: Float32Array.from(shaped.values.subarray(0, n)),
      score: scores[i]!,
      spread: spreads[i]!,
      kl: klOf(r.logprobs, refLogprobsOf),
      advantages: advantages.slice(0, n),
      returns: returns.slice(0, n),
      counted: masks[i]!.reduce((sum, m) => sum + m, 0) > 1 ? masks[i]! : new Uint8Array(n),
    }
  })
}

/** Log-prob of the last token of each row. */
async function lastLogprobs(decoder: Decoder, rows: readonly TokenRow[], temperature: number): Promise<Float32Array> {
  if (rows.length === 0) return new Float32Array(0)
  return scoreLogprobs(decoder, packRows(rows.map(({ ids }) => ({ ids, counted: new Uint8Array(ids.length).fill(1, -1) }))), temperature)
}
