// The clipped value loss of PPO (DeepSpeed-Chat's critic_loss_fn; OpenAI baselines' ppo2):
//   L = (1 / 2 count) sum_t max((V_t - G_t)^2, (clip(V_t, old_t - c, old_t + c) - G_t)^2)
//   dL / dV_t = (V_t - G_t) / count where the unclipped branch is the larger one or both are equal (always so inside the
//   clip range), else 0: the clipped branch does not depend on V_t outside the range
import { checkCount, commonLength } from './checks.js'

export interface ValueLossInput {
  /** [n] of the critic in training. */
  values: ArrayLike<number>
  /** [n] when the experience was made. */
  oldValues: ArrayLike<number>
  /** [n] */
  returns: ArrayLike<number>
  clip: number
  /** Answer tokens of the whole optimizer step: micro-batches then add up. */
  count: number
}

export interface ValueLoss {
  loss: number
  /** [n] d loss / d values. */
  grad: Float64Array
  /** Tokens whose clipped branch is the larger one: they give no gradient. A sum; divide the step's total by its count. */
  clippedSum: number
}

/** Not finite where the input is not: the caller skips such a step. */
export function clippedValueLoss({ values, oldValues, returns, clip, count }: ValueLossInput): ValueLoss {
  const n = commonLength('value loss', { values, oldValues, returns })
  checkCount('value loss', count)
  const out: ValueLoss = { loss: 0, grad: new Float64Array(n), clippedSum: 0 }
  let sum = 0
  for (let t = 0; t < n; t++) {
    const v = values[t]!
    const bounded = Math.min(oldValues[t]! + clip, Math.max(oldValues[t]! - clip, v))
    const plain = (v - returns[t]!) ** 2
    const clipped = (bounded - returns[t]!) ** 2
    sum += Math.max(plain, clipped)
    if (clipped > plain) out.clippedSum++
    else out.grad[t] = (v - returns[t]!) / count
  }
  out.loss = sum / (2 * count)
  return out
}
