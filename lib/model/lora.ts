// LoRA (Hu et al. 2022), kept merged: a layer's matrix is always round(W0 + s B A), and the same weights train, score and
// sample. W0 is kept beside it and never changes, so nothing drifts and contract 1 holds as without LoRA.
//
// The layers compute the gradient dW of the merged matrix, as they do without LoRA; the factors' gradients follow from it:
//   W = W0 + B D A      dB = dW (D A)^T      dA = (B D)^T dW
// with A [r, in], B [out, r] and D [r, r] diagonal: s = alpha / r, and where dropout leaves a rank out, 0. One buffer takes
// dW for all layers in turn.
import { fail } from '../base/errors.js'
import { randomPurpose, RandomSequence, streamNumber, uniform } from '../base/random.js'
import { native } from '../binding/native.js'
import { fromFloats, numel, readFloats } from '../tensor/device.js'
import type { NativeDevice, Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import type { Decoder } from './decoder.js'
import type { Family, Lies, Place } from './families/family.js'
import { placeOf } from './families/registry.js'
import { Unit, UnitStretch, layUnit } from './unit.js'
import type { Trainable } from './unit.js'

export interface LoraOptions {
  /** Rank r of the factors. */
  dim: number
  /** s = alpha / dim. */
  alpha: number
  /**
   * Probability with which each of the r terms of B A is left out of a step's training, for all its tokens; the others
   * weigh 1 / (1 - p) more. (PEFT drops inputs of A, token by token, which no merged matrix can.)
   */
  dropout: number
  /** Everything else is frozen, but for a value head. */
  only: boolean
  seed: number
}

/** A parameter that is part of a stock matrix, and the rows of the stock B that are its own. */
interface Part {
  slot: string
  /** In the factor unit: rows [begin, begin + rows) of the module's B. */
  begin: number
  rows: number
  /** Stock row of each. */
  stockRows: Int32Array
}

/** A stock linear module of one layer. Several of our parameters may lie in it; they share A. */
export interface LoraModule {
  /** Its stock name, e.g. "model.layers.0.self_attn.q_proj". */
  name: string
  layer: number
  inWidth: number
  outWidth: number
  /** Stored [in, out]. */
  transposed: boolean
  parts: Part[]
}

const factor = (module: LoraModule, which: 'A' | 'B'): string => `${module.name}.${which}`

/** The stock row (output) in which row `r` of a parameter lies. */
function stockRow({ offset, block, blockStride, rowStride }: Lies, transposed: boolean, inWidth: number, r: number): number {
  const place = offset + Math.floor(r / block) * blockStride + (r % block) * rowStride
  return transposed ? place : place / inWidth
}

/** Every linear module of the decoder's layers, in order. */
export function linearModules(decoder: Decoder, family: Family): LoraModule[] {
  const modules = new Map<string, LoraModule>()
  for (const [layer, unit] of decoder.layers.entries())
    for (const { name: slot, shape } of unit.layout.slots) {
      if (shape.length !== 2) continue
      const [rows, inWidth] = shape as [number, number]
      const place: Place = placeOf(family, decoder.spec, `${unit.name}.${slot}`, shape)
      const transposed = place.lies.columnStride !== 1
      const name = place.name.replace(/\.weight$/, '')
      const module = modules.get(name) ?? { name, layer, inWidth, outWidth: place.shape[transposed ? 1 : 0]!, transposed, parts: [] }
      modules.set(name, module)
      const begin = module.parts.reduce((n, p) => n + p.rows, 0)
      module.parts.push({ slot, begin, rows, stockRows: Int32Array.from({ length: rows }, (_, r) => stockRow(place.lies, transposed, inWidth, r)) })
    }
  return [...modules.values()]
}

/** Those that a pattern is part of the name of. Error: a pattern that none has. */
export function chooseModules(all: readonly LoraModule[], patterns: readonly string[], flag: string): LoraModule[] {
  for (const pattern of patterns)
    if (!all.some(({ name }) => name.includes(pattern))) {
      const names = all.filter(({ layer }) => layer === 0).map(({ name }) => name)
      fail(flag, 'parts of the names of linear modules', `"${pattern}", which is in none of them`, `one of ${names.join(', ')}, or a part of several`)
    }
  return all.filter(({ name }) => patterns.some((pattern) => name.includes(pattern)))
}

export class Lora {
  /** All of them, in the layers' order. */
  readonly modules: readonly LoraModule[]
  /** What the optimizer moves: the factors, and what else trains. */
  readonly trainables: readonly Trainable[]
  readonly device: NativeDevice
  /** [layers] fp32, A and B of each module; null where a layer has none. */
  readonly #factors: (Unit | null)[]
  /** [layers] What else of the layer trains. */
  readonly #rest: UnitStretch[][]
  /** A value head's weight, where the rest of the head is frozen. */
  readonly #others: UnitStretch[] = []
  /** W0 of each part, by "layers.0.attn.q.weight". */
  readonly #bases = new Map<string, Tensor>()
  /** fp32, dW of the layer at hand. */
  readonly #gradients: Tensor
  /** Of the step that is being trained, whose ranks are left out; null: all ranks in. */
  #step: number | null = null

  /** Allocates; `start` fills. */
  constructor(
    readonly decoder: Decoder,
    chosen: readonly LoraModule[],
    readonly options: LoraOptions,
  ) {
    this.modules = chosen
    this.device = decoder.device
    const { dim, only } = options
    this.#factors = decoder.layers.map((unit, layer) => {
      const own = this.#of(layer)
      const slots = own.flatMap((m) => [
        { name: factor(m, 'A'), shape: [dim, m.inWidth] },
        { name: factor(m, 'B'), shape: [m.parts.reduce((n, p) => n + p.rows, 0), dim] },
      ])
      return own.length > 0 ? new Unit(this.device, `${unit.name}.lora`, layUnit(slots), 'fp32', true) : null
    })
    this.#rest = decoder.layers.map((unit, layer) => (only ? [] : stretches(unit, new Set(this.#of(layer).flatMap((m) => m.parts.map((p) => p.slot))))))
    for (const module of chosen)
      for (const { slot } of module.parts) {
        const unit = decoder.layers[module.layer]!
        this.#bases.set(`${unit.name}.${slot}`, this.device.alloc({ dtype: decoder.dtype, shape: unit.slot(slot).shape, category: 'parameters' }))
      }
    const { head } = decoder
    if (only && decoder.headKind === 'scalar') {
      // a value head that stays as it was made up could score nothing
      const { offset, shape } = head.slot('value.weight')
      this.#others.push(new UnitStretch(head, offset, offset + shape[1]!))
    }
    this.#gradients = this.device.alloc({ dtype: 'fp32', shape: [Math.max(...decoder.layers.map((unit) => unit.layout.size))], category: 'gradients' })
    const factors = this.#factors.filter((unit) => unit !== null)
    this.trainables = [...factors, ...(only ? this.#others : [decoder.embed, ...this.#rest.flat(), head])]
  }

  /** Takes the decoder's weights as W0. A starts uniform in +-1 / sqrt(in), as in PEFT, and B at 0: W is W0. */
  start(): void {
    const { seed } = this.options
    for (const module of this.modules) for (const { slot } of module.parts) this.#withSlot(module, slot, (weights, base) => native().cast(this.device, { in: weights, out: base }))
    for (const [index, module] of this.modules.entries()) {
      const random = new RandomSequence(seed, streamNumber(randomPurpose.loraInit, index))
      const bound = module.inWidth ** -0.5
      this.write(module, { a: Float32Array.from({ length: this.options.dim * module.inWidth }, () => bound * (2 * random.uniform() - 1)), b: null })
    }
  }

  /** Puts the factors of a module in place, in stock order: A [r, in] and B [out, r], or null for zeros. `merge` comes after. */
  write(module: LoraModule, { a, b }: { a: Float32Array; b: Float32Array | null }): void {
    const { dim } = this.options
    using scope = new Scope()
    const unit = this.#factors[module.layer]!
    scope.own(unit.view(factor(module, 'A'))).write(a)
    const ours = new Float32Array(module.parts.reduce((n, p) => n + p.rows, 0) * dim)
    if (b) for (const { begin, stockRows } of module.parts) for (const [r, stock] of stockRows.entries()) ours.set(b.subarray(stock * dim, (stock + 1) * dim), (begin + r) * dim)
    scope.own(unit.view(factor(module, 'B'))).write(ours)
  }

  /** The factors of a module, or their gradients, in stock order: A [r, in], B [out, r]. */
  async read(module: LoraModule, what: 'factors' | 'gradients' = 'factors'): Promise<{ a: Float32Array; b: Float32Array }> {
    const { dim } = this.options
    using scope = new Scope()
    const unit = this.#factors[module.layer]!
    const [a, ours] = await Promise.all((['A', 'B'] as const).map((which) => readFloats(scope.own(what === 'factors' ? unit.view(factor(module, which)) : unit.gradView(factor(module, which))!))))
    const b = new Float32Array(module.outWidth * dim)
    for (const { begin, stockRows } of module.parts) for (const [r, stock] of stockRows.entries()) b.set(ours!.subarray((begin + r) * dim, (begin + r + 1) * dim), stock * dim)
    return { a: a!, b }
  }

  /** W = round(W0 + B D A) for every module, all ranks in. */
  merge(): void {
    this.#mergeWith(null)
  }

  /** Leaves ranks out for the training of one step, if there is dropout; `merge` ends it. */
  drop(step: number): void {
    if (this.options.dropout > 0) this.#mergeWith(step)
  }

  #mergeWith(step: number | null): void {
    this.#step = step
    for (const [index, module] of this.modules.entries()) {
      using scope = new Scope()
      const { a, b } = this.#factorViews(scope, module)
      const scaled = scope.own(native().matmul(this.device, { a: this.#diagonal(scope, index), b: a, transB: false })) // [r, in]
      for (const { slot, begin, rows } of module.parts)
        this.#withSlot(module, slot, (weights, base) => {
          const mine = scope.own(b.view(begin * this.options.dim, [rows, this.options.dim]))
          const merged = scope.own(native().matmul(this.device, { a: mine, b: scaled, transB: false, residual: base, dtype: this.decoder.dtype }))
          native().cast(this.device, { in: merged, out: weights })
        })
    }
  }

  /** A buffer of zeros for the gradients of layer i, null where nothing of it trains. The caller hands it to `collect`. */
  gradients(i: number): Tensor | null {
    if (!this.#factors[i] && this.#rest[i]!.length === 0) return null
    const grads = this.#gradients.view(0, [this.decoder.layers[i]!.layout.size])
    native().fill(this.device, { out: grads, value: 0 })
    return grads
  }

  /** Adds what a layer's gradients are for the factors and whatever else trains; consumes them. */
  collect(i: number, grads: Tensor): void {
    using scope = new Scope()
    scope.own(grads)
    for (const stretch of this.#rest[i]!) stretch.collect(grads)
    const { dim } = this.options
    const unit = this.#factors[i]
    const layer = this.decoder.layers[i]!
    for (const [index, module] of this.modules.entries()) {
      if (module.layer !== i) continue
      const { a, b } = this.#factorViews(scope, module)
      const diagonal = this.#diagonal(scope, index)
      const scaledA = scope.own(native().matmul(this.device, { a: diagonal, b: a, transB: false })) // D A [r, in]
      const scaledB = scope.own(native().matmul(this.device, { a: b, b: diagonal, transB: false })) // B D [out, r]
      const da = scope.own(unit!.gradView(factor(module, 'A'))!)
      const db = scope.own(unit!.gradView(factor(module, 'B'))!)
      for (const { slot, begin, rows } of module.parts) {
        const { offset, shape } = layer.slot(slot)
        const dw = scope.own(grads.view(offset, shape))
        native().matmulAdd(this.device, { a: dw, b: scaledA, out: scope.own(db.view(begin * dim, [rows, dim])), transB: true })
        native().matmulAdd(this.device, { a: scope.own(scaledB.view(begin * dim, [rows, dim])), b: dw, out: da, transA: true, transB: false })
      }
    }
  }

  /** Views of the first numbers of every W0, the caller's: factors belong to one base, and a checkpoint says to which. */
  get baseHeads(): { name: string; tensor: Tensor }[] {
    return Array.from(this.#bases, ([name, base]) => ({ name: `base.${name}`, tensor: base.view(0, [Math.min(16, numel(base.shape))]) }))
  }

  /** The gradient [E] of a value head that trains while the rest of its unit is frozen; the caller disposes it. */
  valueGrad(): Tensor | null {
    const [head] = this.#others
    return head?.grads?.view(0, [head.layout.size]) ?? null
  }

  #of(layer: number): LoraModule[] {
    return this.modules.filter((m) => m.layer === layer)
  }

  #factorViews(scope: Scope, module: LoraModule): { a: Tensor; b: Tensor } {
    const unit = this.#factors[module.layer]!
    return { a: scope.own(unit.view(factor(module, 'A'))), b: scope.own(unit.view(factor(module, 'B'))) }
  }

  /** D of module `index` [r, r], with the ranks of the step at hand. */
  #diagonal(scope: Scope, index: number): Tensor {
    const { dim, alpha, dropout, seed } = this.options
    const step = this.#step
    const stays = (rank: number): boolean => step === null || uniform(seed, streamNumber(randomPurpose.loraDropout, step), index * dim + rank) >= dropout
    const scale = alpha / dim / (step === null ? 1 : 1 - dropout)
    const values = new Float32Array(dim * dim)
    for (let rank = 0; rank < dim; rank++) values[rank * (dim + 1)] = stays(rank) ? scale : 0
    return scope.own(fromFloats(this.device, values, [dim, dim], 'workspace'))
  }

  #withSlot(module: LoraModule, slot: string, use: (weights: Tensor, base: Tensor) => void): void {
    const unit = this.decoder.layers[module.layer]!
    const weights = unit.view(slot)
    use(weights, this.#bases.get(`${unit.name}.${slot}`)!)
    weights.dispose()
  }

  dispose(): void {
    for (const t of [...this.#factors, ...this.#rest.flat(), ...this.#others, ...this.#bases.values(), this.#gradients]) t?.dispose()
  }
}

/** What lies between the slots of a unit that are not trained themselves. */
function stretches(unit: Unit, frozen: ReadonlySet<string>): UnitStretch[] {
  const { slots, size } = unit.layout
  const borders = [...slots].sort((x, y) => x.offset - y.offset)
  const out: UnitStretch[] = []
  let begin: number | null = null
  for (const { name, offset } of borders) {
    if (frozen.has(name)) {
      if (begin !== null) out.push(new UnitStretch(unit, begin, offset))
      begin = null
    } else begin ??= offset
  }
  if (begin !== null) out.push(new UnitStretch(unit, begin, size))
  return out
}
