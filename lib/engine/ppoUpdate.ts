// One PPO optimizer step: the clipped policy loss for the actor, the clipped value loss for the critic.
import { packRows } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import type { Decoder } from '../model/decoder.js'
import { klLoss } from '../rlhf/kl.js'
import type { KlEstimator } from '../rlhf/kl.js'
import { clippedPolicyLoss } from '../rlhf/policyLoss.js'
import { tokenLoss, tokenLossGrad } from '../rlhf/tokenLoss.js'
import { clippedValueLoss } from '../rlhf/valueLoss.js'
import { countedNumbers, logprobGap, packRollouts } from './experience.js'
import type { Experience } from './experience.js'
import { trainLogprobs, trainLogprobsLinear, trainValues } from './logprobs.js'
import type { StepReport, Trainer } from './trainer.js'

export interface PpoUpdateOptions {
  clipRange: number
  valueClipRange: number
  temperature: number
  /** Weight of the mean entropy, which the actor's loss loses. */
  entropyCoef: number
  /** Weight of the mean KL from the reference in the actor's loss (GRPO); 0, the default: it is in the reward. */
  klLossCoef?: number
  klEstimator?: KlEstimator
  /** Texts mixed into the actor's step, in micro-batches, and the weight of their mean token loss (PPO-ptx, Ouyang et al. 2022, eq. 2). */
  ptx?: { batches: readonly TokenRow[][]; coef: number }
}

export interface ActorStep extends StepReport {
  loss: number
  clipFraction: number
  approxKl: number
  ratioMean: number
  ratioMax: number
  entropy: number
  /** Mean KL from the reference as it stands in the loss, before its weight; null where it does not. */
  klLoss: number | null
  /** Mean next-token loss of the texts mixed in, before its weight; null without any. */
  ptxLoss: number | null
  /** Largest gap between recorded and recomputed log-probs; only meaningful before the first update of an experience. */
  gap: number
}

/** Of the whole step. */
const countedTokens = (microBatches: readonly Experience[][]): number => microBatches.reduce((n, part) => n + countedNumbers(part, (e) => e.logprobs).length, 0)

type Sums<S> = Omit<S, keyof StepReport>

/** Adds up what each micro-batch gives: losses are sums over a common count, so they add. */
async function actorGradients(actor: Decoder, microBatches: readonly Experience[][], o: PpoUpdateOptions): Promise<Sums<ActorStep>> {
  const { klLossCoef = 0, klEstimator = 'k3' } = o
  const count = countedTokens(microBatches)
  const sum = { loss: 0, clipFraction: 0, approxKl: 0, ratioMean: 0, ratioMax: 0, entropy: 0, klLoss: klLossCoef > 0 ? 0 : null, ptxLoss: null as number | null, gap: 0 }
  let first = 0
  for (const part of microBatches) {
    const old = { oldLogprobs: countedNumbers(part, (e) => e.logprobs), advantages: countedNumbers(part, (e) => e.advantages) }
    await trainLogprobs(
      actor,
      packRollouts(part, first),
      (logprobs, entropy) => {
        const result = clippedPolicyLoss({ logprobs, ...old, clipLow: o.clipRange, clipHigh: o.clipRange, count })
        if (klLossCoef > 0) {
          const kl = klLoss(logprobs, countedNumbers(part, (e) => e.refLogprobs), klEstimator, count)
          sum.klLoss! += kl.loss
          result.loss += klLossCoef * kl.loss
          result.grad = result.grad.map((g, t) => g + klLossCoef * kl.grad[t]!)
        }
        const entropySum = entropy!.reduce((s, x) => s + x, 0)
        sum.loss += result.loss - (o.entropyCoef * entropySum) / count
        sum.clipFraction += result.clippedSum / count
        sum.approxKl += result.approxKlSum / count
        sum.ratioMean += result.ratioSum / count
        sum.ratioMax = Math.max(sum.ratioMax, result.ratioMax)
        sum.entropy += entropySum / count
        sum.gap = Math.max(sum.gap, logprobGap(part, logprobs))
        return o.entropyCoef > 0 ? { ...result, gradEntropy: new Float32Array(logprobs.length).fill(-o.entropyCoef / count) } : result
      },
      { temperature: o.temperature, entropy: true },
    )
    first += part.length
  }
  if (o.ptx) {
    sum.ptxLoss = await textGradients(actor, o.ptx, first)
    sum.loss += o.ptx.coef * sum.ptxLoss
  }
  return sum
}

/** Adds the gradients of coef times the mean token loss of all batches; gives that mean. `first`: the number of their first row. */
async function textGradients(actor: Decoder, { batches, coef }: NonNullable<PpoUpdateOptions['ptx']>, first: number): Promise<number> {
  let number = first
  const packed = batches.map((rows) => {
    const begin = number
    number += rows.length
    return packRows(rows, (b) => begin + b)
  })
  const count = packed.reduce((n, batch) => n + batch.countedTotal, 0)
  let loss = 0
  for (const batch of packed) loss += tokenLoss(await trainLogprobsLinear(actor, batch, tokenLossGrad(batch.countedTotal, count).map((g) => coef * g)), count)
  return loss
}

export function actorStep(actor: Decoder, trainer: Trainer, microBatches: readonly Experience[][], o: PpoUpdateOptions): Promise<ActorStep> {
  return trainer.step(() => actorGradients(actor, microBatches, o))
}

export interface CriticStep extends StepReport {
  loss: number
  clipFraction: number
}

async function criticGradients(critic: Decoder, microBatches: readonly Experience[][], o: PpoUpdateOptions): Promise<Sums<CriticStep>> {
  const count = countedTokens(microBatches)
  const sum = { loss: 0, clipFraction: 0 }
  let first = 0
  for (const part of microBatches) {
    const old = { oldValues: countedNumbers(part, (e) => e.values), returns: countedNumbers(part, (e) => e.returns) }
    const batch = packRollouts(part, first)
    first += part.length
    await trainValues(critic, batch, batch.countedPositions, (values) => {
      const result = clippedValueLoss({ values, ...old, clip: o.valueClipRange, count })
      sum.loss += result.loss
      sum.clipFraction += result.clippedSum / count
      return result
    })
  }
  return sum
}

export function criticStep(critic: Decoder, trainer: Trainer, microBatches: readonly Experience[][], o: PpoUpdateOptions): Promise<CriticStep> {
  return trainer.step(() => criticGradients(critic, microBatches, o))
}

/** Both steps together: where the gradients of either are not finite, neither model moves (DeepSpeed-Chat's --align_overflow). */
export async function alignedSteps(actor: Trainer, critic: Trainer, microBatches: readonly Experience[][], o: PpoUpdateOptions): Promise<{ actor: ActorStep; critic: CriticStep }> {
  const ofCritic = await critic.gradients(() => criticGradients(critic.decoder, microBatches, o))
  const ofActor = await actor.gradients(() => actorGradients(actor.decoder, microBatches, o))
  const [criticFinite, actorFinite] = [await critic.finite(ofCritic), await actor.finite(ofActor)]
  return { critic: await critic.apply(ofCritic, !actorFinite), actor: await actor.apply(ofActor, !criticFinite) }
}
