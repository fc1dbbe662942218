// The reward model's pairwise loss (InstructGPT, Ouyang et al. 2022, eq. 1; Bradley and Terry 1952):
//   L = (1 / count) sum_i w_i l_i,   l_i = -log sigmoid(c_i - r_i - m_i)
//   dl_i / dc_i = -sigmoid(r_i + m_i - c_i) = -dl_i / dr_i
// m_i is how much better the chosen answer was judged (Llama 2, Touvron et al. 2023, eq. 2). Answers judged alike are the
// label one half (Christiano et al. 2017, section 2.2.3): l_i = -(log sigmoid(d) + log sigmoid(-d)) / 2, d = c_i - r_i,
// dl_i / dc_i = sigmoid(d) - 1/2: the least where both score the same.
// center > 0 adds center (c_i + r_i)^2 to l_i, which keeps scores around 0 without changing which answer is preferred
// (Eisenstein et al. 2023).
import { checkCount, commonLength } from './checks.js'
import { logSigmoid, sigmoid } from './logSigmoid.js'

export interface PairwiseLossInput {
  /** [n] scores of the chosen answers. */
  chosen: ArrayLike<number>
  /** [n] scores of the rejected answers. */
  rejected: ArrayLike<number>
  /** Weights of the whole optimizer step added up (pairs, where each weighs 1): micro-batches then add up. */
  count: number
  /** Weight of the centring term; 0 = off. */
  center?: number
  /** [n] w; without it 1. */
  weight?: ArrayLike<number>
  /** [n] m; without it 0. */
  margin?: ArrayLike<number>
  /** [n] 1 where both answers were judged alike. */
  tie?: ArrayLike<number>
}

export interface PairwiseLoss {
  loss: number
  /** [n] d loss / d chosen. */
  gradChosen: Float64Array
  /** [n] d loss / d rejected. */
  gradRejected: Float64Array
  /** Pairs in which the chosen answer scores higher; equal scores count half, pairs judged alike not at all. */
  correct: number
}

/** Not finite where the input is not: the caller skips such a step. */
export function pairwiseLoss({ chosen, rejected, count, center = 0, ...more }: PairwiseLossInput): PairwiseLoss {
  const n = commonLength('pairwise loss', { chosen, rejected, ...more })
  checkCount('pairwise loss', count)
  const out: PairwiseLoss = { loss: 0, gradChosen: new Float64Array(n), gradRejected: new Float64Array(n), correct: 0 }
  let sum = 0
  for (let i = 0; i < n; i++) {
    const difference = chosen[i]! - rejected[i]!
    const total = chosen[i]! + rejected[i]!
    const weight = more.weight?.[i] ?? 1
    const alike = more.tie?.[i] === 1
    const beyond = difference - (more.margin?.[i] ?? 0)
    sum += weight * (center * total * total - (alike ? (logSigmoid(difference) + logSigmoid(-difference)) / 2 : logSigmoid(beyond)))
    const slope = alike ? sigmoid(difference) - 0.5 : -sigmoid(-beyond)
    out.gradChosen[i] = (weight * (slope + 2 * center * total)) / count
    out.gradRejected[i] = (weight * (-slope + 2 * center * total)) / count
    if (!alike) out.correct += difference > 0 ? 1 : difference === 0 ? 0.5 : 0
  }
  out.loss = sum / count
  return out
}
