// What pretraining and SFT share: next-token loss over counted tokens, and its evaluation.
import { short } from '../base/progress.js'
import { packRows } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import { rowPieces } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { scoreLogprobs, trainLogprobsLinear } from '../engine/logprobs.js'
import type { Trainer } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import { perplexity, tokenLoss, tokenLossGrad } from '../rlhf/tokenLoss.js'
import type { LoopStep, TrainLoopOptions, Training } from './loop.js'
import { trainLoop } from './loop.js'
import { pieces } from './shared.js'

export interface LanguageOptions extends TrainLoopOptions {
  perDeviceEvalBatchSize: number
}

export interface Evaluation {
  loss: number
  perplexity: number
}

/** Mean loss over the counted tokens of `rows`, and its perplexity; null when there are no rows. */
export async function evaluateLanguage(decoder: Decoder, rows: RowList<TokenRow>, batchSize: number): Promise<Evaluation | null> {
  let sum = 0
  let count = 0
  for (const piece of rowPieces(rows, batchSize)) {
    const batch = packRows(piece)
    sum += tokenLoss(await scoreLogprobs(decoder, batch), 1)
    count += batch.countedTotal
  }
  return count === 0 ? null : { loss: sum / count, perplexity: perplexity(sum / count) }
}

/** Rows that count as one row of a batch: SFT has one in each, pretraining packs several texts. */
export interface RowGroups {
  readonly length: number
  rows(group: number): TokenRow[]
}

/** Trains on groups of rows. The loss of a step is the mean over all its counted tokens, however they are cut into micro-batches. */
export async function trainLanguage(training: Training, decoder: Decoder, groups: RowGroups, evalRows: RowList<TokenRow>, options: LanguageOptions): Promise<{ before: Evaluation | null; after: Evaluation | null }> {
  const evaluate = async (step: number): Promise<Evaluation | null> => {
    const result = await evaluateLanguage(decoder, evalRows, options.perDeviceEvalBatchSize)
    if (result) training.run.log(step, { 'eval/loss': result.loss, 'eval/perplexity': result.perplexity })
    return result
  }
  const step = async (trainer: Trainer, chosen: Int32Array): Promise<LoopStep> => {
    let packed = 0
    const batches = pieces(Array.from(chosen), options.perDeviceTrainBatchSize).map((piece) => {
      const rows = piece.flatMap((g) => groups.rows(g))
      const first = packed
      packed += rows.length
      return packRows(rows, (b) => first + b)
    })
    const count = batches.reduce((n, b) => n + b.countedTotal, 0)
    const report = await trainer.step(async () => {
      const pending = batches.map((b) => trainLogprobsLinear(decoder, b, tokenLossGrad(b.countedTotal, count)))
      const logprobs = await Promise.all(pending)
      return { loss: logprobs.reduce((sum, lp) => sum + tokenLoss(lp, count), 0) }
    })
    const tokens = batches.reduce((n, b) => n + b.ids.length, 0)
    return { report, tokens, metrics: { counted_tokens: count }, fields: [`loss ${short(report.loss)}`] }
  }
  return trainLoop(training, { decoder, rows: groups.length, evaluate, step }, options)
}
