// The flat unit: the embedding, each layer and the head own ONE parameter buffer and ONE gradient buffer. Everything
// that happens to parameters (optimizer, clipping, checkpoint, later sharding) happens to units.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import type { ParamSlot, UnitLayout } from '../binding/native.js'
import type { DType, NativeDevice, Tensor } from '../tensor/device.js'

/** What an optimizer moves: a unit, or a stretch of one. */
export interface Trainable {
  readonly name: string
  readonly params: Tensor
  readonly grads: Tensor | null
  readonly layout: Pick<UnitLayout, 'size' | 'decayEnd'>
  readonly dtype: DType
  /** Has the learning rate of LoRA's factors. */
  readonly lora?: boolean
  trainable(): void
}

export class Unit implements Trainable {
  /** [size] in the model's dtype. */
  readonly params: Tensor
  /** fp32 [size]; made when training starts. */
  grads: Tensor | null = null

  constructor(
    readonly device: NativeDevice,
    /** "embed", "layers.0", ..., "head". */
    readonly name: string,
    readonly layout: UnitLayout,
    readonly dtype: DType,
    readonly lora = false,
  ) {
    this.params = device.alloc({ dtype, shape: [layout.size], category: 'parameters', zeroed: true })
  }

  slot(name: string): ParamSlot {
    const slot = this.layout.slots.find((s) => s.name === name)
    return slot ?? fail('model', `a parameter "${name}" in unit ${this.name}`, 'none', 'one of ' + this.layout.slots.map((s) => s.name).join(', '))
  }

  has(name: string): boolean {
    return this.layout.slots.some((s) => s.name === name)
  }

  /** A view of one parameter. The caller disposes it. */
  view(name: string): Tensor {
    const s = this.slot(name)
    return this.params.view(s.offset, s.shape)
  }

  /** A view of one parameter's gradient, or null when the unit is frozen. */
  gradView(name: string): Tensor | null {
    const s = this.slot(name)
    return this.grads?.view(s.offset, s.shape) ?? null
  }

  /** Makes the gradient buffer; a unit without one is frozen. */
  trainable(): void {
    this.grads ??= this.device.alloc({ dtype: 'fp32', shape: [this.layout.size], category: 'gradients', zeroed: true })
  }

  dispose(): void {
    this.params.dispose()
    this.grads?.dispose()
  }
}

/** Elements [begin, end) of a unit that train while the rest of it is frozen. */
export class UnitStretch implements Trainable {
  readonly name: string
  readonly params: Tensor
  readonly layout: Pick<UnitLayout, 'size' | 'decayEnd'>
  readonly dtype: DType
  grads: Tensor | null = null

  constructor(
    readonly unit: Unit,
    readonly begin: number,
    end: number,
  ) {
    const size = end - begin
    this.name = `${unit.name}.${begin}`
    this.dtype = unit.dtype
    this.params = unit.params.view(begin, [size])
    this.layout = { size, decayEnd: Math.min(Math.max(unit.layout.decayEnd - begin, 0), size) }
  }

  trainable(): void {
    this.grads ??= this.unit.device.alloc({ dtype: 'fp32', shape: [this.layout.size], category: 'gradients', zeroed: true })
  }

  /** Adds the gradients of the whole unit, as far as they are this stretch's. */
  collect(grads: Tensor): void {
    const mine = grads.view(this.begin, [this.layout.size])
    native().add(this.unit.device, { a: this.grads!, b: mine, out: this.grads! })
    mine.dispose()
  }

  dispose(): void {
    this.params.dispose()
    this.grads?.dispose()
  }
}

/** Lays slots out one after another, matrices first (they decay), each on a 64-byte border. */
export function layUnit(slots: { name: string; shape: number[] }[]): UnitLayout {
  let size = 0
  let decayEnd = 0
  const laid: ParamSlot[] = []
  for (const decay of [true, false]) {
    for (const { name, shape } of slots) {
      if (shape.length > 1 !== decay) continue
      laid.push({ name, offset: size, shape, decay })
      size = Math.ceil((size + shape.reduce((n, d) => n * d, 1)) / 16) * 16
    }
    if (decay) decayEnd = size
  }
  return { size, decayEnd, slots: laid }
}
