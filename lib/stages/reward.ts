// Step 2, the reward model: backbone and scalar head, a loss on pairs of answers to one prompt.
import type { Given, Resolved } from '../base/options.js'
import { short } from '../base/progress.js'
import { randomPurpose, seededShuffle, streamNumber, uniform } from '../base/random.js'
import type { RunHooks } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import { epochOrder } from '../data/epochs.js'
import type { RankedRow } from '../data/records.js'
import { chosenRows, rowPieces } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { Turns, rankedKind } from '../data/tokenize.js'
import { trainValues } from '../engine/logprobs.js'
import { packRanked } from '../engine/rankedBatch.js'
import type { Comparison } from '../engine/rankedBatch.js'
import type { Trainer } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import { checkRewardLoss, paddingToken } from './compat.js'
import { resolveStage } from './deepspeedConfig.js'
import type { LoopStep, Training } from './loop.js'
import { finishStage, openStage, trainLoop } from './loop.js'
import { rewardOptions } from './options.js'
import { ensembleMargins, evaluateEnsemble } from './rewardEnsemble.js'
import { RewardScores, scoresOn } from './rewardScores.js'
import type { RewardEvaluation } from './rewardScores.js'
import { pieces, silent, withRun } from './shared.js'

export type RewardOptions = Resolved<typeof rewardOptions>

export interface RewardResult {
  model: string | null
  before: RewardEvaluation | null
  after: RewardEvaluation | null
}

/** Trains a reward model on pairs or rankings of answers (Ouyang et al. 2022). */
export async function reward(given: Given<typeof rewardOptions>, hooks: RunHooks = silent): Promise<RewardResult> {
  const options = await resolveStage('reward', rewardOptions, given, hooks)
  checkRewardLoss(options)
  return withRun('reward', options, hooks, async (run, saves) => {
    using stage = await openStage(run, options, { step: 2, head: 'scalar', rows: rankedKind })
    const { model, train, held } = stage
    const comparison = comparisonOf(options, model)
    const rows = options.shuffleLabels ? shuffleLabels(train, options.seed) : train
    if (typeof comparison !== 'string') for (const list of [train, held]) await refuseEarlyEnds(list, comparison)
    const evalRows = judged(held, options)
    const others = await ensembleMargins(model.decoder, evalRows, comparison, options, run.hooks)
    const evaluation = await trainRanked({ run, saves }, model.decoder, { rows, held: evalRows, comparison, others }, options)
    return { model: await finishStage(run, model, options), ...evaluation }
  })
}

/** As many of the held-out rows as --eval-iters allows, the same ones at every evaluation. */
function judged(held: RowList<RankedRow>, { evalIters, perDeviceEvalBatchSize, seed }: RewardOptions): RowList<RankedRow> {
  return evalIters === 0 ? held : chosenRows(held, epochOrder(held.length, seed, 0).subarray(0, evalIters * perDeviceEvalBatchSize))
}

function comparisonOf(options: RewardOptions, model: LoadedModel): Comparison {
  if (options.compat === 'none') return options.rewardLoss as 'last' | 'every-position'
  return { padId: paddingToken(options, model), atBeginning: options.numPaddingAtBeginning, length: Math.min(options.maxSeqLen, model.decoder.maxPositions) }
}

/** Error: a row that padding ends before its answer, said before work starts. */
async function refuseEarlyEnds(rows: RowList<RankedRow>, comparison: Comparison): Promise<void> {
  const turns = new Turns()
  for (const part of rowPieces(rows, 64)) {
    packRanked(part, comparison)
    await turns.next()
  }
}

/** Deals the ranks of each row to its answers at random, so that nothing is left to learn: of two by one draw, of more by a shuffle. */
function shuffleLabels(rows: RowList<RankedRow>, seed: number): RowList<RankedRow> {
  const { labels } = randomPurpose
  const orderOf = (index: number, k: number): ArrayLike<number> => {
    if (k > 2) return seededShuffle(k, seed, streamNumber(labels, index + 1))
    return uniform(seed, streamNumber(labels), index) * 2 ** 32 % 2 === 0 ? [0, 1] : [1, 0]
  }
  const at = (index: number): RankedRow => {
    const row = rows.at(index)
    const order = orderOf(index, row.ranks.length)
    return { ...row, ranks: row.ranks.map((_, i) => row.ranks[order[i]!]!) }
  }
  return { length: rows.length, at, tokens: (index) => rows.tokens(index), dispose: () => rows.dispose() }
}

interface RankedRows {
  rows: RowList<RankedRow>
  held: RowList<RankedRow>
  comparison: Comparison
  /** Margins of the models of --reward-ensemble on the held-out rows. */
  others: readonly Float64Array[]
}

async function trainRanked(training: Training, decoder: Decoder, { rows, held, comparison, others }: RankedRows, options: RewardOptions): Promise<Omit<RewardResult, 'model'>> {
  const evaluate = async (step: number): Promise<RewardEvaluation | null> => {
    if (held.length === 0) return null
    const scores = await scoresOn(decoder, held, options.perDeviceEvalBatchSize, comparison)
    const result = { ...scores.evaluation(), ensemble: evaluateEnsemble(scores, others) }
    training.run.log(step, {
      'eval/loss': result.loss,
      'eval/accuracy': result.accuracy,
      'eval/accuracy_low': result.interval[0],
      'eval/accuracy_high': result.interval[1],
      'eval/rewards/chosen': result.chosen,
      'eval/rewards/rejected': result.rejected,
      'eval/calibration_error': result.calibration?.error ?? null,
      'eval/brier_score': result.calibration?.brier ?? null,
      'eval/log_loss': result.calibration?.logLoss ?? null,
      ...(result.ensemble && { 'eval/agreement': result.ensemble.agreement, 'eval/ensemble_accuracy': result.ensemble.accuracy }),
    })
    return result
  }
  const step = async (trainer: Trainer, chosen: Int32Array): Promise<LoopStep> => {
    const scores = new RewardScores()
    let tokens = 0
    let answers = 0
    const report = await trainer.step(async () => {
      for (const part of pieces(Array.from(chosen, (i) => rows.at(i)), options.perDeviceTrainBatchSize)) {
        const ranked = packRanked(part, comparison, answers)
        answers += part.reduce((n, row) => n + row.ranks.length, 0)
        tokens += ranked.batch.ids.length
        await trainValues(decoder, ranked.batch, ranked.rows, (values) => scores.add(ranked, values, chosen.length, options.centerRewardsCoefficient))
      }
      return { loss: scores.loss }
    })
    const { accuracy } = scores
    const metrics = {
      'rewards/accuracies': accuracy,
      'rewards/chosen': scores.chosen,
      'rewards/rejected': scores.rejected,
      'rewards/margins': scores.chosen - scores.rejected,
    }
    return { report, tokens, metrics, fields: [`loss ${short(report.loss)}`, ...(Number.isNaN(accuracy) ? [] : [`accuracy ${short(accuracy)}`])] }
  }
  return trainLoop(training, { decoder, rows: rows.length, evaluate, step }, options)
}
