// What a reward model's scores give over a step or over the held-out rows: loss, accuracy, mean scores, calibration.
import { wilsonInterval } from '../base/statistics.js'
import type { RankedRow } from '../data/records.js'
import { rowPieces } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { scoreValues } from '../engine/logprobs.js'
import { packRanked } from '../engine/rankedBatch.js'
import type { Comparison, RankedBatch } from '../engine/rankedBatch.js'
import type { Decoder } from '../model/decoder.js'
import { calibration } from '../rlhf/calibration.js'
import type { Calibration } from '../rlhf/calibration.js'
import { pairwiseLoss } from '../rlhf/pairwiseLoss.js'

export interface EnsembleEvaluation {
  /** Share of pairs that two of the models order alike, mean over every two of them. */
  agreement: number
  /** Accuracy of the models' mean score. */
  accuracy: number
}

export interface RewardEvaluation {
  loss: number
  /**
   * Share of pairs in which the better answer scores higher, with its 95 % interval (Wilson). All pairs of one row weigh
   * as much as one, as in the loss: they are no independent trials. Answers judged alike are left out. NaN where all are.
   */
  accuracy: number
  interval: [number, number]
  /** Rows in which some answer is better than another: what the interval counts. */
  rows: number
  /** Mean scores of the better and the worse answers. */
  chosen: number
  rejected: number
  /** How far sigmoid(better - worse) can be taken as a probability; null where no answer is better. */
  calibration: Calibration | null
  pairs: number
  /** Together with the models of --reward-ensemble; null without. */
  ensemble: EnsembleEvaluation | null
}

/** Takes in micro-batches. */
export class RewardScores {
  loss = 0
  pairs = 0
  /** Rows in which some answer is better than another, and the sum of their shares of right pairs. */
  #rows = 0
  #correct = 0
  /** Of each pair in which one is better: its weight and both scores. */
  readonly weights: number[] = []
  readonly #chosen: number[] = []
  readonly #rejected: number[] = []

  /** Values [R] of a micro-batch, of whose rows `count` make the whole; gives the gradient [R]. */
  add({ terms, ranked }: RankedBatch, values: Float32Array, count: number, center = 0): { loss: number; grad: Float64Array } {
    const at = (places: Int32Array): Float64Array => Float64Array.from(places, (place) => values[place]!)
    const { loss, gradChosen, gradRejected } = pairwiseLoss({ ...terms, chosen: at(terms.chosen), rejected: at(terms.rejected), count, center })
    const grad = new Float64Array(values.length)
    for (const [i, place] of terms.chosen.entries()) grad[place]! += gradChosen[i]!
    for (const [i, place] of terms.rejected.entries()) grad[place]! += gradRejected[i]!
    this.loss += loss
    for (const { scores, pairs } of ranked) {
      this.pairs += pairs.length
      const strict = pairs.filter(({ tie }) => !tie)
      if (strict.length > 0) this.#rows++
      let right = 0
      for (const { better, worse } of strict) {
        const [chosen, rejected] = [values[scores[better]!]!, values[scores[worse]!]!]
        right += chosen > rejected ? 1 : chosen === rejected ? 0.5 : 0
        this.weights.push(1 / strict.length)
        this.#chosen.push(chosen)
        this.#rejected.push(rejected)
      }
      if (strict.length > 0) this.#correct += right / strict.length
    }
    return { loss, grad }
  }

  get accuracy(): number {
    return this.#correct / this.#rows
  }

  get chosen(): number {
    return this.#mean(this.#chosen)
  }

  get rejected(): number {
    return this.#mean(this.#rejected)
  }

  #mean(scores: readonly number[]): number {
    return scores.reduce((sum, score, i) => sum + this.weights[i]! * score, 0) / this.#rows
  }

  /** better - worse, of each of these pairs. */
  get margins(): Float64Array {
    return Float64Array.from(this.#chosen, (score, i) => score - this.#rejected[i]!)
  }

  evaluation(): Omit<RewardEvaluation, 'ensemble'> {
    const { loss, accuracy, chosen, rejected, pairs } = this
    const interval = wilsonInterval(this.#correct, this.#rows)
    return { loss, accuracy, interval, rows: this.#rows, chosen, rejected, calibration: calibration(this.margins, this.weights), pairs }
  }
}

/** The scores of a model on all of `rows`. */
export async function scoresOn(decoder: Decoder, rows: RowList<RankedRow>, batchSize: number, comparison: Comparison): Promise<RewardScores> {
  const scores = new RewardScores()
  for (const part of rowPieces(rows, batchSize)) {
    const ranked = packRanked(part, comparison)
    scores.add(ranked, await scoreValues(decoder, ranked.batch, ranked.rows), rows.length)
  }
  return scores
}
