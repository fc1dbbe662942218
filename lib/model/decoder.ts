// The decoder: embedding, layers, final norm. Forward builds on ONE native call per layer; backward runs the tape.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import type { DecodeRows, LayerCall, NativeBatch, NativeLayer, PackedRows } from '../binding/native.js'
import type { DType, NativeDevice, Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import type { Tape } from '../tensor/tape.js'
import { dropout, embed, linear, norm } from './coarse.js'
import type { Lora } from './lora.js'
import { rotaryTable } from './rotary.js'
import type { DecoderSpec, HeadKind } from './spec.js'
import { layerNumbers } from './spec.js'
import { Unit, layUnit } from './unit.js'
import type { Trainable } from './unit.js'

/** Token ids and where they belong; a packed batch or one decode step. */
export type Rows = { ids: Int32Array } & (PackedRows | DecodeRows)

/** Keys and values of every layer: [pages, pageSize, kvHeads, headDim] each. */
export interface CacheTensors {
  keys: Tensor[]
  values: Tensor[]
}

/** Training drops a share p of the elements wherever transformers does for the family. */
export interface Dropout {
  p: number
  /** [2] of the optimizer step: masks follow from it, from the place in the model, and from a token's row and position. */
  seed: Int32Array
}

export class Decoder {
  readonly embed: Unit
  readonly layers: Unit[]
  /** Final norm, projection to the embeddings' width, output projection when untied, value weight when scalar. */
  readonly head: Unit
  /** [layers]; layers with the same numbers share one. */
  readonly plans: NativeLayer[]
  /** One for each rope. */
  readonly #rotary: Tensor[]
  /** Keep only each layer's input for backward, which then runs the layer's forward again: the same gradients, bit for bit. */
  gradientCheckpointing = false
  /** Low-rank factors that train in the place of the layers' matrices. */
  lora: Lora | null = null
  /** Of passes with a tape; the others never drop. Error: rows without rowNumbers. */
  dropout: Dropout | null = null
  /** Multiplies the gradients that backward starts from, and so all it adds. */
  lossScale = 1

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
    this.plans = makePlans(spec)
    const layout = this.plans[0]!.layout()
    this.embed = new Unit(device, 'embed', layUnit(embedSlots(spec)), dtype)
    this.layers = this.plans.map((_, i) => new Unit(device, `layers.${i}`, layout, dtype))
    this.head = new Unit(device, 'head', layUnit(headSlots(spec, headKind)), dtype)
    const { position } = spec
    const prepared = Math.min(positions, spec.maxPositions)
    this.#rotary = position.kind === 'rotary' ? position.ropes.map((rope) => rotaryTable(device, prepared, rope)) : []
  }

  get units(): Unit[] {
    return [this.embed, ...this.layers, this.head]
  }

  /** What training moves. */
  get trainables(): readonly Trainable[] {
    return this.lora?.trainables ?? this.units
  }

  /** Makes gradient buffers. */
  trainable(): void {
    for (const unit of this.trainables) unit.trainable()
  }

  /** Every parameter as [our name, unit, slot name]. */
  parameterNames(): { name: string; unit: Unit; slot: string }[] {
    return this.units.flatMap((unit) => unit.layout.slots.map((s) => ({ name: `${unit.name}.${s.name}`, unit, slot: s.name })))
  }

  get parameterCount(): number {
    return this.units.reduce((n, u) => n + u.layout.slots.reduce((m, s) => m + s.shape.reduce((a, b) => a * b, 1), 0), 0)
  }

  /** The longest sequence this model can take. */
  get maxPositions(): number {
    return this.spec.maxPositions
  }

  /** Bytes of what the layers compute of `tokens` tokens and backward reads, at its most; their inputs are not counted. */
  activationBytes(tokens: number): number {
    const each = this.plans.map((plan) => plan.activationBytes(this.dtype, tokens))
    return this.gradientCheckpointing ? Math.max(...each) : each.reduce((sum, bytes) => sum + bytes, 0)
  }

  /**
   * Hidden states [T, E] after the final norm, owned by the caller (E is the hidden size, or the embeddings' width).
   * With a tape, keeps what backward needs and records it; with a cache, also writes keys and values.
   */
  forward(rows: Rows, tape: Tape | null, cache: CacheTensors | null = null): Tensor {
    this.#checkPositions(rows.positions)
    using scope = new Scope()
    const batch = (tape?.save.bind(tape) ?? scope.own.bind(scope))(new (native().Batch)(this.device, rows)) as NativeBatch
    const drop = tape && this.dropout
    let x = this.#embed(rows, tape)
    if (drop && this.spec.dropsEmbedding) x = dropout(this.#run(tape), x, { ...drop, batch })
    for (let i = 0; i < this.layers.length; i++) x = this.#layer(i, x, batch, tape, cache, drop)
    if (this.spec.finalNorm) x = norm(this.#run(tape), this.head, 'norm', this.spec, x)
    return this.head.has('project.weight') ? linear(this.#run(tape), this.head, 'project.weight', x) : x
  }

  #run(tape: Tape | null): { device: NativeDevice; tape: Tape | null } {
    return { device: this.device, tape }
  }

  #checkPositions(positions: Int32Array): void {
    const { maxPositions, positionLimit } = this.spec
    for (const p of positions)
      if (p >= maxPositions)
        fail('model', `sequences of at most ${maxPositions} tokens${positionLimit ? ` (${positionLimit})` : ''}`, `position ${p}`, 'a shorter --max-seq-len or prompt')
  }

  #embed({ ids, positions }: Rows, tape: Tape | null): Tensor {
    const run = this.#run(tape)
    const { spec } = this
    const learned = spec.position.kind === 'learned' ? { positions, offset: spec.position.offset } : null
    const projected = this.embed.has('project.weight')
    let x = embed(run, this.embed, { ids, scale: spec.embedScale, frozenId: spec.paddingId ?? -1, learned: projected ? null : learned })
    if (projected) x = linear(run, this.embed, 'project.weight', x, learned)
    return spec.embedNorm ? norm(run, this.embed, 'norm', { norm: 'layer', normEps: spec.normEps, normOffset: 0 }, x) : x
  }

  #layer(i: number, x: Tensor, batch: NativeBatch, tape: Tape | null, cache: CacheTensors | null, drop: Dropout | null): Tensor {
    const unit = this.layers[i]!
    const plan = this.plans[i]!
    const rotaryTable = this.#rotary[this.spec.layerKinds[i]!.rope] ?? null
    const call: LayerCall = { params: unit.params, x, batch, rotaryTable, dropout: drop && { attention: drop.p, residual: this.spec.dropsResidual ? drop.p : 0, seed: drop.seed, layer: i } }
    using scope = new Scope()
    if (tape) tape.save(x)
    else scope.own(x)
    const keep = tape !== null && !this.gradientCheckpointing
    const { out, saved } = plan.forward(this.device, { ...call, keys: cache?.keys[i], values: cache?.values[i], save: keep })
    if (!tape) return out
    if (saved) tape.save(saved)
    tape.record((dout) => {
      const read = saved ?? this.#savedAgain(plan, call)
      const grads = this.lora ? this.lora.gradients(i) : unit.grads
      const dx = plan.backward(this.device, { ...call, grads, saved: read, dout })
      if (grads) this.lora?.collect(i, grads)
      read.dispose()
      x.dispose()
      return dx
    })
    return out
  }

  #savedAgain(plan: NativeLayer, call: LayerCall): Tensor {
    const { out, saved } = plan.forward(this.device, { ...call, save: true })
    out.dispose()
    return saved!
  }

  dispose(): void {
    this.lora?.dispose()
    for (const unit of this.units) unit.dispose()
    for (const table of this.#rotary) table.dispose()
  }
}

function makePlans(spec: DecoderSpec): NativeLayer[] {
  const made = new Map<string, NativeLayer>()
  return Array.from({ length: spec.layers }, (_, i) => {
    const numbers = layerNumbers(spec, i)
    const key = JSON.stringify(numbers)
    const plan = made.get(key) ?? new (native().Layer)(numbers)
    made.set(key, plan)
    return plan
  })
}

type Slots = { name: string; shape: number[] }[]

function embedSlots({ vocab, hidden, embedWidth, embedNorm, position }: DecoderSpec): Slots {
  const slots: Slots = [{ name: 'tokens.weight', shape: [vocab, embedWidth] }]
  if (embedWidth !== hidden) slots.push({ name: 'project.weight', shape: [hidden, embedWidth] })
  if (position.kind === 'learned') slots.push({ name: 'positions.weight', shape: [position.rows, hidden] })
  if (embedNorm) slots.push({ name: 'norm.weight', shape: [hidden] }, { name: 'norm.bias', shape: [hidden] })
  return slots
}

function headSlots(spec: DecoderSpec, kind: HeadKind): Slots {
  const { vocab, hidden, embedWidth } = spec
  const slots: Slots = []
  if (spec.finalNorm) slots.push({ name: 'norm.weight', shape: [hidden] })
  if (spec.finalNorm && spec.norm === 'layer') slots.push({ name: 'norm.bias', shape: [hidden] })
  if (embedWidth !== hidden) slots.push({ name: 'project.weight', shape: [embedWidth, hidden] })
  if (kind === 'logprob' && !spec.tiedHead) slots.push({ name: 'weight', shape: [vocab, embedWidth] })
  if (kind === 'logprob' && spec.headBias) slots.push({ name: 'bias', shape: [vocab] })
  if (kind === 'scalar') slots.push({ name: 'value.weight', shape: [1, embedWidth] })
  return slots
}
