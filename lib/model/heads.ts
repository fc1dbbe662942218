// Log-prob head (actor, reference) and scalar head (reward, critic) on hidden states [T, E]. Never a [T, V] tensor.
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

/** The output projection [V, E], its bias [V] and the cap of the logits; the views are `scope`'s. */
export function projection(model: Decoder, scope: Scope): { weight: Tensor; bias: Tensor | null; softcap: number } {
  if (model.headKind !== 'logprob') fail('model', 'a model with a language-model head', 'one with a scalar head', 'the SFT or actor model')
  const { tiedHead, headBias, logitSoftcap: softcap } = model.spec
  return { weight: scope.own(tiedHead ? model.embed.view('tokens.weight') : model.head.view('weight')), bias: headBias ? scope.own(model.head.view('bias')) : null, softcap }
}

function projectionGrads(model: Decoder, scope: Scope): { dweight: Tensor | null; dbias: Tensor | null } {
  const { tiedHead, headBias } = model.spec
  const own = (t: Tensor | null): Tensor | null => t && scope.own(t)
  return { dweight: own(tiedHead ? model.embed.gradView('tokens.weight') : model.head.gradView('weight')), dbias: headBias ? own(model.head.gradView('bias')) : null }
}

function scaledGradient({ device, lossScale }: Decoder, g: Float32Array): Tensor {
  return fromFloats(device, lossScale === 1 ? g : g.map((x) => x * lossScale), [g.length])
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

  /** log-softmax(logits / temperature) at the targets, before any cut; owns `hidden`. */
  static forward(model: Decoder, hidden: Tensor, where: Targets, { temperature = 1, entropy = false } = {}): Logprobs {
    using scope = new Scope()
    scope.own(hidden)
    const invTemperature = Math.fround(1 / temperature)
    const out = native().logprobs(model.device, { hidden, ...projection(model, scope), ...where, invTemperature, entropy })
    return new Logprobs(model, scope.keep(hidden), where, invTemperature, out.logprobs, out.lse, out.entropy)
  }

  /** Backward from d loss / d logprobs[R] (and d entropy) through head and decoder; ends the tape. */
  backward(tape: Tape, dlogprobs: Float32Array, dentropy: Float32Array | null = null): void {
    const { model } = this
    using scope = new Scope()
    const upload = (g: Float32Array): Tensor => scope.own(scaledGradient(model, g))
    const dhidden = native().logprobsBackward(model.device, {
      hidden: this.hidden,
      ...projection(model, scope),
      ...this.where,
      invTemperature: this.invTemperature,
      lse: this.lse,
      entropy: this.entropy,
      dlogprobs: upload(dlogprobs),
      dentropy: dentropy && upload(dentropy),
      ...projectionGrads(model, scope),
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
    return model.head.params.view(slot.offset, [model.spec.embedWidth])
  }

  /** Backward from d loss / d values[R] through head and decoder; ends the tape. */
  backward(tape: Tape, dvalues: Float32Array): void {
    const { model } = this
    using scope = new Scope()
    const slot = model.head.slot('value.weight')
    const grad = (model.head.grads?.view(slot.offset, [model.spec.embedWidth]) ?? model.lora?.valueGrad()) ?? null
    const dhidden = native().valuesBackward(model.device, {
      hidden: this.hidden,
      weight: scope.own(Values.#weight(model)),
      rows: this.rows,
      dvalues: scope.own(scaledGradient(model, dvalues)),
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
