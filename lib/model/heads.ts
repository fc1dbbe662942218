// Log-prob head (actor, reference) and scalar head (reward, critic) on hidden states [T, H]. Never a [T, V] tensor.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import { fromFloats } from '../tensor/device.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import type { Tape } from '../tensor/tape.js'
import type { Decoder } from './decoder.js'

/** Which rows of the hidden states predict which tokens. */
export interface Targets {
  /** [R] rows of hidden, each at most once. */
  rows: Int32Array
  /** [R] token ids. */
  targets: Int32Array
}

/** The output projection [V, H]; a view the caller disposes. */
export function projection(model: Decoder): Tensor {
  if (model.headKind !== 'logprob') fail('model', 'a model with a language-model head', 'one with a scalar head', 'the SFT or actor model')
  return model.spec.tiedHead ? model.embed.view('tokens.weight') : model.head.view('weight')
}

function projectionGrad(model: Decoder): Tensor | null {
  return model.spec.tiedHead ? model.embed.gradView('tokens.weight') : model.head.gradView('weight')
}

/** Log-probs of the targets, with what backward needs. Dispose after use. */
export class Logprobs {
  private constructor(
    private readonly model: Decoder,
    private readonly hidden: Tensor,
    private readonly where: Targets,
    private readonly invTemperature: number,
    /** fp32 [R] */
    readonly logprobs: Tensor,
    private readonly lse: Tensor,
    /** fp32 [R], when asked for */
    readonly entropy: Tensor | null,
  ) {}

  /** log-softmax(hidden W^T / temperature) at the targets, before any cut; owns `hidden`. */
  static forward(model: Decoder, hidden: Tensor, where: Targets, { temperature = 1, entropy = false } = {}): Logprobs {
    using scope = new Scope()
    scope.own(hidden)
    const weight = scope.own(projection(model))
    const invTemperature = Math.fround(1 / temperature)
    const out = native().logprobs(model.device, { hidden, weight, ...where, invTemperature, entropy })
    return new Logprobs(model, scope.keep(hidden), where, invTemperature, out.logprobs, out.lse, out.entropy)
  }

  /** Backward from d loss / d logprobs[R] (and d entropy) through head and decoder; ends the tape. */
  backward(tape: Tape, dlogprobs: Float32Array, dentropy: Float32Array | null = null): void {
    const { model } = this
    using scope = new Scope()
    const upload = (g: Float32Array): Tensor => scope.own(fromFloats(model.device, g, [g.length]))
    const grad = projectionGrad(model)
    const dhidden = native().logprobsBackward(model.device, {
      hidden: this.hidden,
      weight: scope.own(projection(model)),
      ...this.where,
      invTemperature: this.invTemperature,
      lse: this.lse,
      entropy: this.entropy,
      dlogprobs: upload(dlogprobs),
      dentropy: dentropy && upload(dentropy),
      dweight: grad && scope.own(grad),
    })
    this.dispose()
    tape.backward(dhidden)
  }

  dispose(): void {
    for (const t of [this.hidden, this.logprobs, this.lse, this.entropy]) t?.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Scalars at chosen rows, with what backward needs. Dispose after use. */
export class Values {
  private constructor(
    private readonly model: Decoder,
    private readonly hidden: Tensor,
    private readonly rows: Int32Array,
    /** fp32 [R] */
    readonly values: Tensor,
  ) {}

  /** hidden[rows] . w; owns `hidden`. */
  static forward(model: Decoder, hidden: Tensor, rows: Int32Array): Values {
    using scope = new Scope()
    scope.own(hidden)
    if (model.headKind !== 'scalar') fail('model', 'a model with a scalar head', 'one with a language-model head', 'the reward model or critic')
    const values = native().values(model.device, { hidden, weight: scope.own(Values.#weight(model)), rows })
    return new Values(model, scope.keep(hidden), rows, values)
  }

  static #weight(model: Decoder): Tensor {
    const slot = model.head.slot('value.weight')
    return model.head.params.view(slot.offset, [model.spec.hidden])
  }

  /** Backward from d loss / d values[R] through head and decoder; ends the tape. */
  backward(tape: Tape, dvalues: Float32Array): void {
    const { model } = this
    using scope = new Scope()
    const slot = model.head.slot('value.weight')
    const grad = model.head.grads?.view(slot.offset, [model.spec.hidden]) ?? null
    const dhidden = native().valuesBackward(model.device, {
      hidden: this.hidden,
      weight: scope.own(Values.#weight(model)),
      rows: this.rows,
      dvalues: scope.own(fromFloats(model.device, dvalues, [dvalues.length])),
      dweight: grad && scope.own(grad),
    })
    this.dispose()
    tape.backward(dhidden)
  }

  dispose(): void {
    this.hidden.dispose()
    this.values.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
