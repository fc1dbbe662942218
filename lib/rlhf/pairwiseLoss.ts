// The reward model's pairwise loss on the last token (InstructGPT, Ouyang et al. 2022, eq. 1; Bradley and Terry 1952):
//   L = (1 / count) sum_i -log sigmoid(c_i - r_i)
//   dL / dc_i = -sigmoid(r_i - c_i) / count = -dL / dr_i
// plus, with center > 0, (1 / count) sum_i center (c_i + r_i)^2, which keeps scores around 0 without changing which
// answer is preferred (Eisenstein et al. 2023).
import { checkCount, commonLength } from './checks.js'
import { logSigmoid, sigmoid } from './logSigmoid.js'

export interface PairwiseLossInput {
  /** [n] scores of the chosen answers. */
  chosen: ArrayLike<number>
  /** [n] scores of the rejected answers. */
  rejected: ArrayLike<number>
  /** Pairs of the whole optimizer step: micro-batches then add up. */
  count: number
  /** Weight of the centring term; 0 = off. */
  center?: number
}

export interface PairwiseLoss {
  loss: number
  /** [n] d loss / d chosen. */
  gradChosen: Float64Array
  /** [n] d loss / d rejected. */
  gradRejected: Float64Array
  /** Pairs in which the chosen answer scores higher; a tie counts half. */
  correct: number
}

/** Not finite where the input is not: the caller skips such a step. */
export function pairwiseLoss({ chosen, rejected, count, center = 0 }: PairwiseLossInput): PairwiseLoss {
  const n = commonLength('pairwise loss', { chosen, rejected })
  checkCount('pairwise loss', count)
  const out: PairwiseLoss = { loss: 0, gradChosen: new Float64Array(n), gradRejected: new Float64Array(n), correct: 0 }
  let sum = 0
  for (let i = 0; i < n; i++) {
    const margin = chosen[i]! - rejected[i]!
    const total = chosen[i]! + rejected[i]!
    sum += center * total * total - logSigmoid(margin)
    const wrong = sigmoid(-margin)
    out.gradChosen[i] = (-wrong + 2 * center * total) / count
    out.gradRejected[i] = (wrong + 2 * center * total) / count
    out.correct += margin > 0 ? 1 : margin === 0 ? 0.5 : 0
  }
  out.loss = sum / count
  return out
}
