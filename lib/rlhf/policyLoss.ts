// The clipped policy loss of PPO (Schulman et al. 2017, eq. 7; DeepSpeed-Chat's actor_loss_fn), with
// ratio_t = exp(new_t - old_t):
//   L = (1 / count) sum_t max(-A_t ratio_t, -A_t clip(ratio_t, 1 - low, 1 + high))
//   dL / d new_t = -A_t ratio_t / count where the unclipped branch is the larger one or both are equal, else 0
import { checkCount, commonLength } from './checks.js'

export interface PolicyLossInput {
  /** [n] under the policy in training. */
  logprobs: ArrayLike<number>
  /** [n] recorded when the answer was sampled. */
  oldLogprobs: ArrayLike<number>
  /** [n] */
  advantages: ArrayLike<number>
  clipLow: number
  clipHigh: number
  /** Answer tokens of the whole optimizer step: micro-batches then add up. */
  count: number
}

export interface PolicyLoss {
  loss: number
  /** [n] d loss / d logprobs. */
  grad: Float64Array
  /** Tokens whose clipped branch is the larger one: they give no gradient. This and the next two are sums over the n
   * tokens; divide the step's total by its count. */
  clippedSum: number
  /** Of (ratio - 1) - log ratio, the k3 estimate of KL(old || new). */
  approxKlSum: number
  ratioSum: number
  /** 0 without tokens. */
  ratioMax: number
}

/** Not finite where the input is not: the caller skips such a step. */
export function clippedPolicyLoss({ logprobs, oldLogprobs, advantages, clipLow, clipHigh, count }: PolicyLossInput): PolicyLoss {
  const n = commonLength('policy loss', { logprobs, oldLogprobs, advantages })
  checkCount('policy loss', count)
  const out: PolicyLoss = { loss: 0, grad: new Float64Array(n), clippedSum: 0, approxKlSum: 0, ratioSum: 0, ratioMax: 0 }
  let sum = 0
  for (let t = 0; t < n; t++) {
    const logRatio = logprobs[t]! - oldLogprobs[t]!
    const ratio = Math.exp(logRatio)
    const a = advantages[t]!
    const plain = -a * ratio
    const clipped = -a * Math.min(1 + clipHigh, Math.max(1 - clipLow, ratio))
    sum += Math.max(plain, clipped)
    if (clipped > plain) out.clippedSum++
    else out.grad[t] = plain / count
    out.approxKlSum += Math.expm1(logRatio) - logRatio
    out.ratioSum += ratio
    out.ratioMax = Math.max(out.ratioMax, ratio)
  }
  out.loss = sum / count
  return out
}
