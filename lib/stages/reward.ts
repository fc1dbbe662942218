// Step 2, the reward model: backbone and scalar head, pairwise loss on the last token.
import type { Given, Resolved } from '../base/options.js'
import { short } from '../base/progress.js'
import { RandomSequence, randomPurpose, streamNumber } from '../base/random.js'
import type { RunHooks } from '../base/run.js'
import { RunningSums, wilsonInterval } from '../base/statistics.js'
import { packPairs } from '../data/packing.js'
import type { PairRow } from '../data/records.js'
import { rowPieces } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { pairKind } from '../data/tokenize.js'
import { lastTokens, scoreValues, trainValues } from '../engine/logprobs.js'
import type { Trainer } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import { pairwiseLoss } from '../rlhf/pairwiseLoss.js'
import { resolveStage } from './deepspeedConfig.js'
import type { LoopStep, Training } from './loop.js'
import { finishStage, openStage, trainLoop } from './loop.js'
import { rewardOptions } from './options.js'
import { pieces, silent, withRun } from './shared.js'

export type RewardOptions = Resolved<typeof rewardOptions>

export interface RewardEvaluation {
  loss: number
  /** Share of pairs in which the chosen answer scores higher, with its 95 % interval (Wilson). */
  accuracy: number
  interval: [number, number]
  /** Mean scores. */
  chosen: number
  rejected: number
  pairs: number
}

export interface RewardResult {
  model: string | null
  before: RewardEvaluation | null
  after: RewardEvaluation | null
}

/** Trains a reward model on {prompt, chosen, rejected} pairs (Ouyang et al. 2022). */
export async function reward(given: Given<typeof rewardOptions>, hooks: RunHooks = silent): Promise<RewardResult> {
  const options = await resolveStage('reward', rewardOptions, given, hooks)
  return withRun('reward', options, hooks, async (run, saves) => {
    using stage = await openStage(run, options, { step: 2, head: 'scalar', rows: pairKind })
    const { model, train, held } = stage
    const pairs = options.shuffleLabels ? shuffleLabels(train, options.seed) : train
    const evaluation = await trainPairs({ run, saves }, model.decoder, pairs, held, options)
    return { model: await finishStage(run, model, options), ...evaluation }
  })
}

/** Swaps half the pairs at random: nothing is left to learn. */
function shuffleLabels(pairs: RowList<PairRow>, seed: number): RowList<PairRow> {
  const random = new RandomSequence(seed, streamNumber(randomPurpose.labels))
  const swapped = Uint8Array.from({ length: pairs.length }, () => random.below(2))
  const at = (index: number): PairRow => {
    const pair = pairs.at(index)
    return swapped[index] === 0 ? pair : { ...pair, chosen: pair.rejected, rejected: pair.chosen }
  }
  return { length: pairs.length, at, tokens: (index) => pairs.tokens(index), dispose: () => pairs.dispose() }
}

/** Scores of one batch: values [2n], those of the chosen answers first. */
class PairScores {
  loss = 0
  correct = 0
  readonly chosen = new RunningSums()
  readonly rejected = new RunningSums()

  /** Takes in a micro-batch of pairs of which `count` make the whole; gives the gradient [2n]. */
  add(values: Float32Array, count: number, center = 0): { loss: number; grad: Float64Array } {
    const n = values.length / 2
    const [chosen, rejected] = [values.subarray(0, n), values.subarray(n)]
    const { loss, correct, gradChosen, gradRejected } = pairwiseLoss({ chosen, rejected, count, center })
    this.loss += loss
    this.correct += correct
    this.chosen.addAll(chosen)
    this.rejected.addAll(rejected)
    return { loss, grad: Float64Array.from([...gradChosen, ...gradRejected]) }
  }
}

async function trainPairs(training: Training, decoder: Decoder, pairs: RowList<PairRow>, evalPairs: RowList<PairRow>, options: RewardOptions): Promise<Omit<RewardResult, 'model'>> {
  const evaluate = async (step: number): Promise<RewardEvaluation | null> => {
    const result = await evaluatePairs(decoder, evalPairs, options.perDeviceEvalBatchSize)
    if (result)
      training.run.log(step, {
        'eval/loss': result.loss,
        'eval/accuracy': result.accuracy,
        'eval/accuracy_low': result.interval[0],
        'eval/accuracy_high': result.interval[1],
        'eval/rewards/chosen': result.chosen,
        'eval/rewards/rejected': result.rejected,
      })
    return result
  }
  const step = async (trainer: Trainer, chosen: Int32Array): Promise<LoopStep> => {
    const scores = new PairScores()
    let tokens = 0
    let pairsDone = 0
    const report = await trainer.step(async () => {
      for (const part of pieces(Array.from(chosen, (i) => pairs.at(i)), options.perDeviceTrainBatchSize)) {
        const batch = packPairs(part, pairsDone)
        pairsDone += part.length
        tokens += batch.ids.length
        await trainValues(decoder, batch, lastTokens(batch), (values) => scores.add(values, chosen.length, options.centerRewardsCoefficient))
      }
      return { loss: scores.loss }
    })
    const accuracy = scores.correct / chosen.length
    const metrics = {
      'rewards/accuracies': accuracy,
      'rewards/chosen': scores.chosen.mean,
      'rewards/rejected': scores.rejected.mean,
      'rewards/margins': scores.chosen.mean - scores.rejected.mean,
    }
    return { report, tokens, metrics, fields: [`loss ${short(report.loss)}`, `accuracy ${short(accuracy)}`] }
  }
  return trainLoop(training, { decoder, rows: pairs.length, evaluate, step }, options)
}

/** Accuracy and mean scores on held-out pairs; null without any. */
export async function evaluatePairs(decoder: Decoder, pairs: RowList<PairRow>, batchSize: number): Promise<RewardEvaluation | null> {
  if (pairs.length === 0) return null
  const scores = new PairScores()
  for (const part of rowPieces(pairs, batchSize)) {
    const batch = packPairs(part)
    scores.add(await scoreValues(decoder, batch, lastTokens(batch)), pairs.length)
  }
  const { loss, correct, chosen, rejected } = scores
  return { loss, accuracy: correct / pairs.length, interval: wilsonInterval(correct, pairs.length), chosen: chosen.mean, rejected: rejected.mean, pairs: pairs.length }
}
