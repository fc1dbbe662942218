// The clipped value loss of PPO (DeepSpeed-Chat's critic_loss_fn):
//   L = (1 / 2 count) sum_t max((V_t - G_t)^2, (clip(V_t, old_t - c, old_t + c) - G_t)^2)
//   dL / dV_t = (V_t - G_t) / count where the unclipped branch is the larger one; where the clipped one is, 0 outside
//   the clip range and the same as unclipped inside it

export interface ValueLossInput {
  /** [n] of the critic in training. */
  values: ArrayLike<number>
  /** [n] when the experience was made. */
  oldValues: ArrayLike<number>
  /** [n] */
  returns: ArrayLike<number>
  clip: number
  /** Answer tokens of the whole optimizer step. */
  count: number
}

export interface ValueLoss {
  loss: number
  /** [n] */
  grad: Float64Array
  /** Tokens whose clipped branch is the larger one. */
  clippedSum: number
}

export function clippedValueLoss({ values, oldValues, returns, clip, count }: ValueLossInput): ValueLoss {
  const n = values.length
  const out: ValueLoss = { loss: 0, grad: new Float64Array(n), clippedSum: 0 }
  for (let t = 0; t < n; t++) {
    const v = values[t]!
    const bounded = Math.min(oldValues[t]! + clip, Math.max(oldValues[t]! - clip, v))
    const plain = (v - returns[t]!) ** 2
    const clipped = (bounded - returns[t]!) ** 2
    out.loss += Math.max(plain, clipped) / (2 * count)
    if (clipped > plain) out.clippedSum++
    else out.grad[t] = (v - returns[t]!) / count
  }
  return out
}
