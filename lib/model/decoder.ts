// The decoder: embedding, layers, final norm. Forward builds on ONE native call per layer; backward runs the tape.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import type { DecodeRows, NativeBatch, NativeLayer, PackedRows } from '../binding/native.js'
import type { DType, NativeDevice, Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import type { Tape } from '../tensor/tape.js'
import { rotaryTable } from './rotary.js'
import type { DecoderSpec, HeadKind } from './spec.js'
import { layerNumbers } from './spec.js'
import { Unit, layUnit } from './unit.js'

/** Token ids and where they belong; a packed batch or one decode step. */
export type Rows = { ids: Int32Array } & (PackedRows | DecodeRows)

/** Keys and values of every layer: [pages, pageSize, kvHeads, headDim] each. */
export interface CacheTensors {
  keys: Tensor[]
  values: Tensor[]
}

export class Decoder {
  readonly embed: Unit
  readonly layers: Unit[]
  /** Final norm, output projection when untied, value weight when scalar. */
  readonly head: Unit
  readonly plan: NativeLayer
  #rotary: Tensor | null

  /**
   * All parameters 0; the caller loads or initialises them.
   * `positions` is how many rotary positions to prepare (the model's own limit if absent).
   */
  constructor(
    readonly device: NativeDevice,
    readonly spec: DecoderSpec,
    readonly dtype: DType,
    readonly headKind: HeadKind,
    positions = spec.maxPositions,
  ) {
    const { vocab, hidden, position } = spec
    const embed = [{ name: 'tokens.weight', shape: [vocab, hidden] }]
    if (position.kind === 'learned') embed.push({ name: 'positions.weight', shape: [position.rows, hidden] })
    const head: { name: string; shape: number[] }[] = []
    if (spec.finalNorm) head.push({ name: 'norm.weight', shape: [hidden] })
    if (spec.finalNorm && spec.norm === 'layer') head.push({ name: 'norm.bias', shape: [hidden] })
    if (headKind === 'logprob' && !spec.tiedHead) head.push({ name: 'weight', shape: [vocab, hidden] })
    if (headKind === 'scalar') head.push({ name: 'value.weight', shape: [1, hidden] })

    this.plan = new (native().Layer)(layerNumbers(spec))
    this.embed = new Unit(device, 'embed', layUnit(embed), dtype)
    this.layers = Array.from({ length: spec.layers }, (_, i) => new Unit(device, `layers.${i}`, this.plan.layout(), dtype))
    this.head = new Unit(device, 'head', layUnit(head), dtype)
    this.#rotary = position.kind === 'rotary' ? rotaryTable(device, Math.min(positions, spec.maxPositions), spec.headDim, position.theta) : null
  }

  get units(): Unit[] {
    return [this.embed, ...this.layers, this.head]
  }

  /** Makes gradient buffers. */
  trainable(): void {
    for (const unit of this.units) unit.trainable()
  }

  /** Every parameter as [our name, unit, slot name]. */
  parameterNames(): { name: string; unit: Unit; slot: string }[] {
    return this.units.flatMap((unit) => unit.layout.slots.map((s) => ({ name: `${unit.name}.${s.name}`.replace('head.value.weight', 'head.value'), unit, slot: s.name })))
  }

  get parameterCount(): number {
    return this.units.reduce((n, u) => n + u.layout.slots.reduce((m, s) => m + s.shape.reduce((a, b) => a * b, 1), 0), 0)
  }

  /** The longest sequence this model can take. */
  get maxPositions(): number {
    return this.spec.maxPositions
  }

  /**
   * Hidden states [T, H] after the final norm, owned by the caller.
   * With a tape, keeps what backward needs and records it; with a cache, also writes keys and values.
   */
  forward(rows: Rows, tape: Tape | null, cache: CacheTensors | null = null): Tensor {
    const { device } = this
    this.#checkPositions(rows.positions)
    using scope = new Scope()
    const batch = (tape?.save.bind(tape) ?? scope.own.bind(scope))(new (native().Batch)(device, rows)) as NativeBatch
    let x = this.#embed(rows, tape)
    for (let i = 0; i < this.layers.length; i++) x = this.#layer(i, x, batch, tape, cache)
    return this.#finalNorm(x, tape)
  }

  #checkPositions(positions: Int32Array): void {
    for (const p of positions)
      if (p >= this.spec.maxPositions)
        fail('model', `sequences of at most ${this.spec.maxPositions} tokens`, `position ${p}`, 'a shorter --max-seq-len or prompt')
  }

  #embed(rows: Rows, tape: Tape | null): Tensor {
    const { device, embed, spec } = this
    using scope = new Scope()
    const { ids, positions } = rows
    const learned = spec.position.kind === 'learned' ? spec.position : null
    const positionOffset = learned?.offset ?? 0
    const x = native().embedding(device, {
      ids,
      table: scope.own(embed.view('tokens.weight')),
      positions,
      positionTable: learned && scope.own(embed.view('positions.weight')),
      positionOffset,
    })
    if (embed.grads)
      tape?.record((dout) => {
        using inner = new Scope()
        native().embeddingBackward(device, {
          ids,
          positions,
          positionOffset,
          frozenId: spec.paddingId ?? -1,
          dout,
          dtable: inner.own(embed.gradView('tokens.weight')!),
          dpositionTable: learned && inner.own(embed.gradView('positions.weight')!),
        })
        return null
      })
    return x
  }

  #layer(i: number, x: Tensor, batch: NativeBatch, tape: Tape | null, cache: CacheTensors | null): Tensor {
    const unit = this.layers[i]!
    const rotaryTable = this.#rotary
    const call = { params: unit.params, x, batch, rotaryTable }
    using scope = new Scope()
    if (tape) tape.save(x)
    else scope.own(x)
    const { out, saved } = this.plan.forward(this.device, { ...call, keys: cache?.keys[i], values: cache?.values[i], save: tape !== null })
    if (!tape) return out
    tape.save(saved!)
    tape.record((dout) => {
      const dx = this.plan.backward(this.device, { ...call, grads: unit.grads, saved: saved!, dout })
      saved!.dispose()
      x.dispose()
      return dx
    })
    return out
  }

  #finalNorm(x: Tensor, tape: Tape | null): Tensor {
    const { device, head, spec } = this
    if (!spec.finalNorm) return x
    using scope = new Scope()
    if (tape) tape.save(x)
    else scope.own(x)
    const weight = scope.own(head.view('norm.weight'))
    const bias = head.has('norm.bias') ? scope.own(head.view('norm.bias')) : null
    const { out, mean, rstd } = native().norm(device, { kind: spec.norm, eps: spec.normEps, x, weight, bias })
    for (const t of [mean, rstd]) {
      if (tape) tape.save(t)
      else scope.own(t)
    }
    if (!tape) return out
    tape.record((dout) => {
      using inner = new Scope()
      const own = <T extends Tensor | null>(t: T): T => t && (inner.own(t) as T)
      return native().normBackward(device, {
        kind: spec.norm,
        x,
        weight: inner.own(head.view('norm.weight')),
        mean,
        rstd,
        dout,
        dweight: own(head.gradView('norm.weight')),
        dbias: head.has('norm.bias') ? own(head.gradView('norm.bias')) : null,
      })
    })
    return out
  }

  dispose(): void {
    for (const unit of this.units) unit.dispose()
    this.#rotary?.dispose()
  }
}
