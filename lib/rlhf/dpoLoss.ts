// Direct preference optimisation, the sigmoid form (Rafailov et al. 2023, eq. 7) with label smoothing eps (Mitchell 2023,
// "cDPO"; DeepSpeed-Chat's step 2 alternative). Log-probs are sums over an answer's tokens.
//   z_i = beta [(pc_i - rc_i) - (pr_i - rr_i)]
//   L = (1 / count) sum_i -(1 - eps) log sigmoid(z_i) - eps log sigmoid(-z_i)
//   dL / dpc_i = beta [eps sigmoid(z_i) - (1 - eps) sigmoid(-z_i)] / count = -dL / dpr_i
import { checkCount, commonLength } from './checks.js'
import { logSigmoid, sigmoid } from './logSigmoid.js'

export interface DpoLossInput {
  /** [n] log-probs of whole answers under the policy in training. */
  policyChosen: ArrayLike<number>
  policyRejected: ArrayLike<number>
  /** [n] the same under the frozen reference. */
  refChosen: ArrayLike<number>
  refRejected: ArrayLike<number>
  /** Strength of the pull towards the reference; DeepSpeed-Chat 0.1. */
  beta: number
  /** Assumed share of swapped labels, in [0, 0.5); 0 = plain DPO. */
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

/** Not finite where the input is not: the caller skips such a step. */
export function dpoLoss({ policyChosen, policyRejected, refChosen, refRejected, beta, labelSmoothing, count }: DpoLossInput): DpoLoss {
  const n = commonLength('DPO loss', { policyChosen, policyRejected, refChosen, refRejected })
  checkCount('DPO loss', count)
  const zeros = (): Float64Array => new Float64Array(n)
  const out: DpoLoss = { loss: 0, gradChosen: zeros(), gradRejected: zeros(), rewardsChosen: zeros(), rewardsRejected: zeros(), correct: 0 }
  let sum = 0
  for (let i = 0; i < n; i++) {
    const chosen = beta * (policyChosen[i]! - refChosen[i]!)
    const rejected = beta * (policyRejected[i]! - refRejected[i]!)
    const z = chosen - rejected
    sum -= (1 - labelSmoothing) * logSigmoid(z) + labelSmoothing * logSigmoid(-z)
    const slope = (beta * (labelSmoothing * sigmoid(z) - (1 - labelSmoothing) * sigmoid(-z))) / count
    out.gradChosen[i] = slope
    out.gradRejected[i] = -slope
    out.rewardsChosen[i] = chosen
    out.rewardsRejected[i] = rejected
    out.correct += z > 0 ? 1 : z === 0 ? 0.5 : 0
  }
  out.loss = sum / count
  return out
}
