// Direct preference optimisation. Log-probs p (policy) and r (reference) are of whole answers, sums or means over their
// tokens; r = 0 is the reference-free form.
//   d_i = (pc_i - rc_i) - (pr_i - rr_i),   z_i = beta d_i,   L = (1 / count) sum_i l(d_i)
//   sigmoid  l = -(1 - eps) log sigmoid(z) - eps log sigmoid(-z)     Rafailov et al. 2023, eq. 7; eps: Mitchell 2023, "cDPO"
//            dl/dd = beta [eps sigmoid(z) - (1 - eps) sigmoid(-z)]   (DeepSpeed-Chat's step 2 alternative)
//   hinge    l = max(0, 1 - z),           dl/dd = -beta if z < 1     Zhao et al. 2023, "SLiC-HF"; TRL's hinge
//   ipo      l = (d - 1 / (2 beta))^2,    dl/dd = 2 d - 1 / beta     Azar et al. 2023, eq. 17, beta for its tau
//   dL/dpc_i = l'(d_i) / count = -dL/dpr_i
import { checkCount, commonLength } from './checks.js'
import { logSigmoid, sigmoid } from './logSigmoid.js'

export const dpoLossTypes = ['sigmoid', 'hinge', 'ipo'] as const
export type DpoLossType = (typeof dpoLossTypes)[number]

export interface DpoLossInput {
  type?: DpoLossType
  /** [n] log-probs of whole answers under the policy in training. */
  policyChosen: ArrayLike<number>
  policyRejected: ArrayLike<number>
  /** [n] the same under the frozen reference. */
  refChosen: ArrayLike<number>
  refRejected: ArrayLike<number>
  /** Strength of the pull towards the reference, above 0; DeepSpeed-Chat 0.1. */
  beta: number
  /** Of the sigmoid form: assumed share of swapped labels, in [0, 0.5); 0 = plain DPO. */
  labelSmoothing: number
  /** Pairs of the whole optimizer step: micro-batches then add up. */
  count: number
}

export interface DpoLoss {
  loss: number
  /** [n] d loss / d policyChosen. */
  gradChosen: Float64Array
  /** [n] d loss / d policyRejected. */
  gradRejected: Float64Array
  /** [n] implicit rewards, beta (policy - reference). */
  rewardsChosen: Float64Array
  rewardsRejected: Float64Array
  /** Pairs whose chosen answer has the higher implicit reward; a tie counts half. */
  correct: number
}

/** l and dl/dd of one pair, from z = beta d. */
function pairTerm(type: DpoLossType, z: number, beta: number, eps: number): { loss: number; slope: number } {
  // Math.max keeps NaN
  if (type === 'hinge') return { loss: Math.max(0, 1 - z), slope: z < 1 ? -beta : 0 }
  if (type === 'ipo') {
    const off = z / beta - 1 / (2 * beta)
    return { loss: off * off, slope: 2 * off }
  }
  return { loss: -(1 - eps) * logSigmoid(z) - eps * logSigmoid(-z), slope: beta * (eps * sigmoid(z) - (1 - eps) * sigmoid(-z)) }
}

/** Not finite where the input is not: the caller skips such a step. */
export function dpoLoss({ type = 'sigmoid', policyChosen, policyRejected, refChosen, refRejected, beta, labelSmoothing, count }: DpoLossInput): DpoLoss {
  const n = commonLength('DPO loss', { policyChosen, policyRejected, refChosen, refRejected })
  checkCount('DPO loss', count)
  const zeros = (): Float64Array => new Float64Array(n)
  const out: DpoLoss = { loss: 0, gradChosen: zeros(), gradRejected: zeros(), rewardsChosen: zeros(), rewardsRejected: zeros(), correct: 0 }
  let sum = 0
  for (let i = 0; i < n; i++) {
    const chosen = beta * (policyChosen[i]! - refChosen[i]!)
    const rejected = beta * (policyRejected[i]! - refRejected[i]!)
    const z = chosen - rejected
    const { loss, slope } = pairTerm(type, z, beta, labelSmoothing)
    sum += loss
    out.gradChosen[i] = slope / count
    out.gradRejected[i] = -slope / count
    out.rewardsChosen[i] = chosen
    out.rewardsRejected[i] = rejected
    out.correct += z > 0 ? 1 : z === 0 ? 0.5 : 0
  }
  out.loss = sum / count
  return out
}
