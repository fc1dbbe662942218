// Direct preference optimisation, in place of steps 2 and 3: the policy learns from pairs, against a frozen reference.
import { UsageError } from '../base/errors.js'
import type { Given, Resolved } from '../base/options.js'
import { short } from '../base/progress.js'
import type { RunHooks } from '../base/run.js'
import { RunningSums, wilsonInterval } from '../base/statistics.js'
import { packPairs } from '../data/packing.js'
import type { PackedBatch } from '../data/packing.js'
import { pairKind } from '../data/tokenize.js'
import { answerLengths, scoreAnswers, trainAnswers } from '../engine/answerLogprobs.js'
import type { Trainer } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import { dpoLoss } from '../rlhf/dpoLoss.js'
import { resolveStage } from './deepspeedConfig.js'
import { DpoReference } from './dpoReference.js'
import type { LoopStep, Training } from './loop.js'
import { finishStage, openStage, trainLoop } from './loop.js'
import { dpoOptions } from './options.js'
import { pieces, silent, withRun } from './shared.js'

export type DpoOptions = Resolved<typeof dpoOptions>

export interface DpoEvaluation {
  loss: number
  /** Share of pairs whose chosen answer has the higher implicit reward, with its 95 % interval (Wilson); ties count half. */
  accuracy: number
  interval: [number, number]
  /** Mean implicit rewards: beta times the log-prob gained over the reference. */
  chosen: number
  rejected: number
  /** Mean log-probs of the answers under the policy. */
  chosenLogprob: number
  rejectedLogprob: number
  pairs: number
}

export interface DpoResult {
  model: string | null
  before: DpoEvaluation | null
  after: DpoEvaluation | null
}

/** Trains the model in `modelNameOrPath` on {prompt, chosen, rejected} pairs (Rafailov et al. 2023; IPO, hinge, cDPO). */
export async function dpo(given: Given<typeof dpoOptions>, hooks: RunHooks = silent): Promise<DpoResult> {
  const options = await resolveStage('dpo', dpoOptions, given, hooks)
  refuseContradictions(options)
  return withRun('dpo', options, hooks, async (run, saves) => {
    await DpoReference.check(options, run.hooks)
    using stage = await openStage(run, options, { step: 2, head: 'logprob', rows: pairKind })
    const { model, train, held } = stage
    using reference = new DpoReference(run, model.decoder.device, { train, held }, options)
    const evaluation = await trainDpo({ run, saves }, model.decoder, reference, options)
    return { model: await finishStage(run, model, options), ...evaluation }
  })
}

/** Errors: options that exclude each other. */
export function refuseContradictions({ lossType, labelSmoothing, referenceFree, referenceModelNameOrPath, precomputeReference }: DpoOptions): void {
  if (labelSmoothing > 0 && lossType !== 'sigmoid') throw new UsageError('--label-smoothing', `0 with --loss-type ${lossType}`, String(labelSmoothing), '--loss-type sigmoid')
  if (labelSmoothing === 0.5) throw new UsageError('--label-smoothing', 'less than 0.5', '0.5, at which both answers are alike', '--label-smoothing 0.1')
  const asked = referenceModelNameOrPath !== null ? '--reference-model-name-or-path' : precomputeReference ? '--precompute-reference' : null
  if (referenceFree && asked) throw new UsageError('--reference-free', `no ${asked}: there is no reference`, 'both', 'one of the two')
}

/** Sums over pairs: of one step, or of the held-out ones. */
export class PairSums {
  loss = 0
  correct = 0
  readonly chosen = new RunningSums()
  readonly rejected = new RunningSums()
  readonly chosenLogprob = new RunningSums()
  readonly rejectedLogprob = new RunningSums()

  constructor(private readonly options: Pick<DpoOptions, 'lossType' | 'beta' | 'labelSmoothing' | 'lengthNormalize'>) {}

  /** Takes in log-probs [2n] of a micro-batch, those of chosen answers first, of which `count` pairs make the whole; gives the gradient [2n]. */
  add(batch: PackedBatch, policy: Float64Array, reference: Float64Array, count: number): { loss: number; grad: Float64Array } {
    const { lossType: type, beta, labelSmoothing, lengthNormalize } = this.options
    const n = policy.length / 2
    // an answer without a counted token has log-prob 0 of either kind
    const lengths = lengthNormalize ? Float64Array.from(answerLengths(batch), (tokens) => Math.max(tokens, 1)) : new Float64Array(2 * n).fill(1)
    const [p, r] = [policy, reference].map((sums) => sums.map((sum, i) => sum / lengths[i]!)) as [Float64Array, Float64Array]
    const [policyChosen, policyRejected] = [p.subarray(0, n), p.subarray(n)]
    const result = dpoLoss({ type, policyChosen, policyRejected, refChosen: r.subarray(0, n), refRejected: r.subarray(n), beta, labelSmoothing, count })
    this.loss += result.loss
    this.correct += result.correct
    this.chosen.addAll(result.rewardsChosen)
    this.rejected.addAll(result.rewardsRejected)
    this.chosenLogprob.addAll(policyChosen)
    this.rejectedLogprob.addAll(policyRejected)
    return { loss: result.loss, grad: Float64Array.from([...result.gradChosen, ...result.gradRejected], (slope, i) => slope / lengths[i]!) }
  }
}

async function trainDpo(training: Training, decoder: Decoder, reference: DpoReference, options: DpoOptions): Promise<Omit<DpoResult, 'model'>> {
  const { train, held } = reference.rows
  const evaluate = async (step: number): Promise<DpoEvaluation | null> => {
    if (held.length === 0) return null
    const sums = new PairSums(options)
    for (const part of pieces(Array.from({ length: held.length }, (_, i) => i), options.perDeviceEvalBatchSize)) {
      const batch = packPairs(part.map((i) => held.at(i)))
      sums.add(batch, await scoreAnswers(decoder, batch), await reference.logprobs('held', part, batch), held.length)
    }
    const interval = wilsonInterval(sums.correct, held.length)
    const accuracy = sums.correct / held.length
    const [chosen, rejected, chosenLogprob, rejectedLogprob] = [sums.chosen.mean, sums.rejected.mean, sums.chosenLogprob.mean, sums.rejectedLogprob.mean]
    training.run.log(step, {
      'eval/loss': sums.loss,
      'eval/accuracy': accuracy,
      'eval/accuracy_low': interval[0],
      'eval/accuracy_high': interval[1],
      'eval/rewards/chosen': chosen,
      'eval/rewards/rejected': rejected,
      'eval/rewards/margins': chosen - rejected,
      'eval/logps/chosen': chosenLogprob,
      'eval/logps/rejected': rejectedLogprob,
    })
    return { loss: sums.loss, accuracy, interval, chosen, rejected, chosenLogprob, rejectedLogprob, pairs: held.length }
  }
  const step = async (trainer: Trainer, chosen: Int32Array): Promise<LoopStep> => {
    const sums = new PairSums(options)
    let tokens = 0
    let done = 0
    const report = await trainer.step(async () => {
      for (const part of pieces(Array.from(chosen), options.perDeviceTrainBatchSize)) {
        const batch = packPairs(part.map((i) => train.at(i)), done)
        done += part.length
        tokens += batch.ids.length
        const ref = await reference.logprobs('train', part, batch)
        await trainAnswers(decoder, batch, (policy) => sums.add(batch, policy, ref, chosen.length))
      }
      return { loss: sums.loss }
    })
    const accuracy = sums.correct / chosen.length
    const metrics = {
      'rewards/accuracies': accuracy,
      'rewards/chosen': sums.chosen.mean,
      'rewards/rejected': sums.rejected.mean,
      'rewards/margins': sums.chosen.mean - sums.rejected.mean,
      'logps/chosen': sums.chosenLogprob.mean,
      'logps/rejected': sums.rejectedLogprob.mean,
    }
    return { report, tokens, metrics, fields: [`loss ${short(report.loss)}`, `accuracy ${short(accuracy)}`] }
  }
  return trainLoop(training, { decoder, kept: reference, rows: train.length, evaluate, step }, options)
}
