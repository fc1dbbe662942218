// The ops of a decoder outside its layers, each forward with its step on the tape: embedding, projection, norm. An input is
// consumed: freed at once, or kept by the tape until its step has run.
import { native } from '../binding/native.js'
import type { NativeBatch, NativeDevice, Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import type { Tape } from '../tensor/tape.js'
import type { Unit } from './unit.js'

export interface Run {
  device: NativeDevice
  /** Null: no backward will come. */
  tape: Tape | null
}

/** Rows of a learned position table: position p reads row p + offset. */
export interface Learned {
  /** [T] */
  positions: Int32Array
  offset: number
}

/** scale * tokens[ids] (+ positions[place]) of the unit's tables: [T, E]. */
export function embed({ device, tape }: Run, unit: Unit, o: { ids: Int32Array; scale: number; frozenId: number; learned: Learned | null }): Tensor {
  using scope = new Scope()
  const { ids, scale, learned } = o
  const places = learned && { positions: learned.positions, positionOffset: learned.offset }
  const out = native().embedding(device, { ids, scale, table: scope.own(unit.view('tokens.weight')), ...places, positionTable: learned && scope.own(unit.view('positions.weight')) })
  if (unit.grads)
    tape?.record((dout) => {
      using inner = new Scope()
      native().embeddingBackward(device, {
        ids,
        scale,
        frozenId: o.frozenId,
        dout,
        dtable: inner.own(unit.gradView('tokens.weight')!),
        ...places,
        dpositionTable: learned && inner.own(unit.gradView('positions.weight')!),
      })
      return null
    })
  return out
}

/** x [T, H] with a share p of its elements 0 and the others divided by 1 - p; the batch says of which sequences. */
export function dropout({ device, tape }: Run, x: Tensor, o: { p: number; seed: Int32Array; batch: NativeBatch }): Tensor {
  using scope = new Scope()
  const out = native().dropout(device, { x: scope.own(x), ...o })
  tape?.record((dout) => native().dropout(device, { x: dout, ...o }))
  return out
}

/** x W^T (+ learned positions): [T, out] of x [T, in] and the slot W [out, in]. */
export function linear({ device, tape }: Run, unit: Unit, slot: string, x: Tensor, learned: Learned | null = null): Tensor {
  using scope = new Scope()
  if (tape) tape.save(x)
  else scope.own(x)
  const rows = learned && learned.positions.map((p) => p + learned.offset)
  const residual = rows && scope.own(native().embedding(device, { ids: rows, table: scope.own(unit.view('positions.weight')) }))
  const out = native().matmul(device, { a: x, b: scope.own(unit.view(slot)), residual })
  tape?.record((dout) => {
    using inner = new Scope()
    if (unit.grads) {
      native().matmulAdd(device, { a: dout, b: x, out: inner.own(unit.gradView(slot)!), transA: true, transB: false })
      if (rows) native().embeddingBackward(device, { ids: rows, dout, dtable: inner.own(unit.gradView('positions.weight')!) })
    }
    const dx = native().matmul(device, { a: dout, b: inner.own(unit.view(slot)), transB: false })
    x.dispose()
    return dx
  })
  return out
}

/** LayerNorm or RMSNorm of x [T, H] with the unit's slots `${name}.weight` and, where it has one, `${name}.bias`. */
export function norm({ device, tape }: Run, unit: Unit, name: string, o: { norm: 'layer' | 'rms'; normEps: number; normOffset: number }, x: Tensor): Tensor {
  using scope = new Scope()
  if (tape) tape.save(x)
  else scope.own(x)
  const [weight, bias] = [`${name}.weight`, `${name}.bias`]
  const call = { kind: o.norm, weightOffset: o.normOffset, x }
  const { out, mean, rstd } = native().norm(device, { ...call, eps: o.normEps, weight: scope.own(unit.view(weight)), bias: unit.has(bias) ? scope.own(unit.view(bias)) : null })
  for (const t of [mean, rstd]) {
    if (tape) tape.save(t)
    else scope.own(t)
  }
  tape?.record((dout) => {
    using inner = new Scope()
    const own = (t: Tensor | null): Tensor | null => t && inner.own(t)
    const grads = { dweight: own(unit.gradView(weight)), dbias: unit.has(bias) ? own(unit.gradView(bias)) : null }
    return native().normBackward(device, { ...call, weight: inner.own(unit.view(weight)), mean, rstd, dout, ...grads })
  })
  return out
}
