// The reward model's pairwise loss on the last token (InstructGPT, Ouyang et al. 2022; Bradley and Terry 1952):
//   L = (1 / count) sum_i -log sigmoid(c_i - r_i)
//   dL / dc_i = -sigmoid(r_i - c_i) / count = -dL / dr_i

export interface PairwiseLossInput {
  /** [n] scores of the chosen answers. */
  chosen: ArrayLike<number>
  /** [n] scores of the rejected answers. */
  rejected: ArrayLike<number>
  /** Pairs of the whole optimizer step. */
  count: number
}

export interface PairwiseLoss {
  loss: number
  gradChosen: Float64Array
  gradRejected: Float64Array
  /** Pairs in which the chosen answer scores higher; a tie counts half. */
  correct: number
}

export function pairwiseLoss({ chosen, rejected, count }: PairwiseLossInput): PairwiseLoss {
  const n = chosen.length
  const out: PairwiseLoss = { loss: 0, gradChosen: new Float64Array(n), gradRejected: new Float64Array(n), correct: 0 }
  for (let i = 0; i < n; i++) {
    const x = chosen[i]! - rejected[i]!
    const e = Math.exp(-Math.abs(x))
    out.loss += (Math.max(-x, 0) + Math.log1p(e)) / count
    const wrong = x >= 0 ? e / (1 + e) : 1 / (1 + e)
    out.gradChosen[i] = -wrong / count
    out.gradRejected[i] = wrong / count
    out.correct += x > 0 ? 1 : x === 0 ? 0.5 : 0
  }
  return out
}
