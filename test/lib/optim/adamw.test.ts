// AdamW against the formula written out in float64: decay on matrices only, clipping over all units, skipped steps.
import test from 'ava'

import { normals } from '../../../lib/model/initialize.js'
import { Unit, layUnit } from '../../../lib/model/unit.js'
import { AdamW } from '../../../lib/optim/adamw.js'
import type { AdamWOptions } from '../../../lib/optim/adamw.js'
import { createDevice, readFloats } from '../device.js'
import type { DType, NativeDevice } from '../device.js'
import { f32ToBf16 } from '../../../lib/base/halves.js'
import { writeFloats } from '../../../lib/checkpoint/weights.js'

const options: AdamWOptions = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 }

function makeUnits(device: NativeDevice, dtype: DType): Unit[] {
  const slots = [{ name: 'w', shape: [3, 5] }, { name: 'b', shape: [7] }]
  return [0, 1].map((i) => {
    const unit = new Unit(device, `u${i}`, layUnit(slots), dtype)
    unit.trainable()
    for (const [k, s] of unit.layout.slots.entries()) {
      const view = unit.view(s.name)
      writeFloats(view, normals(s.shape.reduce((a, b) => a * b, 1), 1, 3, 10 * i + k))
      view.dispose()
    }
    return unit
  })
}

/** The reference: float64, one parameter after another. */
class Reference {
  m: Float64Array
  v: Float64Array
  step = 0
  constructor(
    readonly x: Float64Array,
    readonly decays: boolean[],
  ) {
    this.m = new Float64Array(x.length)
    this.v = new Float64Array(x.length)
  }

  /** Loshchilov and Hutter 2019, algorithm 2, with the gradient clipped to a global norm first. */
  update(g: Float64Array, lr: number, o: AdamWOptions): void {
    const norm = Math.sqrt(g.reduce((s, x) => s + x * x, 0))
    const factor = o.maxGradNorm > 0 ? Math.min(1, o.maxGradNorm / (norm + 1e-6)) : 1
    this.step++
    for (let i = 0; i < g.length; i++) {
      const x = g[i]! * factor
      this.m[i] = o.beta1 * this.m[i]! + (1 - o.beta1) * x
      this.v[i] = o.beta2 * this.v[i]! + (1 - o.beta2) * x * x
      const [mHat, vHat] = [this.m[i]! / (1 - o.beta1 ** this.step), this.v[i]! / (1 - o.beta2 ** this.step)]
      this.x[i] = this.x[i]! * (1 - (this.decays[i] ? lr * o.weightDecay : 0)) - (lr * mHat) / (Math.sqrt(vHat) + o.eps)
    }
  }
}

async function flat(units: Unit[]): Promise<Float64Array> {
  return Float64Array.from((await Promise.all(units.map((u) => readFloats(u.params)))).flatMap((p) => Array.from(p)))
}

function setGradients(units: Unit[], values: Float64Array): void {
  let at = 0
  for (const u of units) u.grads!.write(Float32Array.from(values.subarray(at, (at += u.layout.size))))
}

/** Gradients for step `k`: 0 where a unit has padding between its parameters. */
function gradientsFor(units: Unit[], k: number, scale: number): Float64Array {
  return Float64Array.from(
    units.flatMap((u, i) => {
      const out = new Float64Array(u.layout.size)
      for (const [j, s] of u.layout.slots.entries()) out.set(normals(s.shape.reduce((a, b) => a * b, 1), scale, 100 + k, 10 * i + j), s.offset)
      return Array.from(out)
    }),
  )
}

const gap = (a: Float64Array, b: Float64Array): number => a.reduce((top, x, i) => Math.max(top, Math.abs(x - b[i]!)), 0)
const decaysOf = (units: Unit[]): boolean[] => units.flatMap((u) => Array.from({ length: u.layout.size }, (_, i) => i < u.layout.decayEnd))

test('ten steps follow the formula; clipping, decay and bias correction each matter', async (t) => {
  using device = createDevice({ threads: 2 })
  const units = makeUnits(device, 'fp32')
  const start = await flat(units)
  const variants: [string, Reference, AdamWOptions][] = [
    ['as configured', new Reference(start.slice(), decaysOf(units)), options],
    ['without clipping', new Reference(start.slice(), decaysOf(units)), { ...options, maxGradNorm: 0 }],
    ['without decay', new Reference(start.slice(), decaysOf(units)), { ...options, weightDecay: 0 }],
    ['decay on everything', new Reference(start.slice(), decaysOf(units).map(() => true)), options],
  ]
  const adam = new AdamW(device, units, options)
  for (let k = 0; k < 10; k++) {
    const g = gradientsFor(units, k, k % 2 ? 0.05 : 2)
    setGradients(units, g)
    const { gradNorm, finite } = await adam.update(0.01 * (k + 1))
    t.true(finite)
    const norm = Math.sqrt(g.reduce((s, x) => s + x * x, 0))
    t.true(Math.abs(gradNorm / norm - 1) < 1e-6, 'the norm is over all units and before clipping')
    for (const [, reference, o] of variants) reference.update(g, 0.01 * (k + 1), o)
  }
  t.is(adam.step, 10)
  const got = await flat(units)
  for (const [what, reference] of variants) {
    if (what === 'as configured') t.true(gap(got, reference.x) < 2e-6, `${what}: ${gap(got, reference.x)}`)
    else t.true(gap(got, reference.x) > 1e-4, `${what} is told apart`)
  }
  adam.dispose()
})

test('bf16 weights keep fp32 masters: small steps add up', async (t) => {
  using device = createDevice({ threads: 2 })
  const units = makeUnits(device, 'bf16')
  const reference = new Reference((await flat(units)).slice(), decaysOf(units))
  const start = reference.x.slice()
  const adam = new AdamW(device, units, options)
  for (let k = 0; k < 100; k++) {
    const g = gradientsFor(units, 0, 1)
    setGradients(units, g)
    await adam.update(1e-4)
    reference.update(g, 1e-4, options)
  }
  const got = await flat(units)
  const rounded = Float64Array.from(reference.x, (x) => {
    const bits = new Uint32Array([f32ToBf16(Float32Array.of(x))[0]! << 16])
    return new Float32Array(bits.buffer)[0]!
  })
  const off = got.reduce((n, x, i) => n + (Math.abs(x - rounded[i]!) > 0 ? 1 : 0), 0)
  t.true(off <= 2, `${off} weights are not the rounded masters`) // a master next to a rounding border may fall either way
  t.true(gap(got, start) > 5e-3, 'a hundred steps of 1e-4, each below half a bf16 step of a weight near 1, moved the weights')
  adam.dispose()
})

test('a gradient that is not finite changes nothing: weights, moments, step count', async (t) => {
  using device = createDevice({ threads: 2 })
  const [units, twins] = [makeUnits(device, 'fp32'), makeUnits(device, 'fp32')]
  const [adam, twin] = [new AdamW(device, units, options), new AdamW(device, twins, options)]
  for (const bad of [NaN, Infinity, -Infinity]) {
    const g = gradientsFor(units, 1, 1)
    g[g.length - 16] = bad
    setGradients(units, g)
    const before = await flat(units)
    const { finite, gradNorm } = await adam.update(0.1)
    t.false(finite)
    t.false(Number.isFinite(gradNorm))
    t.deepEqual(await flat(units), before)
  }
  t.is(adam.step, 0)
  for (const [a, u] of [[adam, units], [twin, twins]] as const) {
    setGradients(u, gradientsFor(u, 2, 1))
    t.true((await a.update(0.1)).finite)
  }
  t.deepEqual(await flat(units), await flat(twins), 'as if the bad steps had never been')
  adam.dispose()
  twin.dispose()
})

test('zeroGrad and the units a model has', async (t) => {
  using device = createDevice({ threads: 1 })
  const units = makeUnits(device, 'fp32')
  const empty = new Unit(device, 'empty', layUnit([]), 'fp32')
  const adam = new AdamW(device, [...units, empty], options)
  setGradients(units, gradientsFor(units, 0, 1))
  adam.zeroGrad()
  t.true((await readFloats(units[1]!.grads!)).every((x) => x === 0))
  t.is((await adam.update(0.1)).gradNorm, 0)
  adam.dispose()
})
