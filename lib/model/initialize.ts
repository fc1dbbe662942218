// Fresh weights as transformers makes them: normal with the config's standard deviation, norms at 1 (with their offset),
// biases 0.
import { RandomSequence, randomPurpose, streamNumber } from '../base/random.js'
import { numel } from '../tensor/device.js'
import type { Tensor } from '../tensor/device.js'
import type { Decoder } from './decoder.js'

/** n draws of a normal distribution (Box and Muller 1958) from stream `index` of the seed. */
export function normals(n: number, std: number, seed: number, index: number): Float32Array {
  const random = new RandomSequence(seed, streamNumber(randomPurpose.weights, index))
  const out = new Float32Array(n)
  for (let i = 0; i < n; i += 2) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - random.uniform()))
    const angle = 2 * Math.PI * random.uniform()
    out[i] = radius * Math.cos(angle)
    if (i + 1 < n) out[i + 1] = radius * Math.sin(angle)
  }
  return out
}

/** Fills every parameter; the numbers of one depend on the seed and its place alone. `write` stores fp32 values. */
export function initialize(decoder: Decoder, seed: number, write: (t: Tensor, values: Float32Array) => void): void {
  for (const [index, { unit, slot }] of decoder.parameterNames().entries()) {
    const { name, shape } = unit.slot(slot)
    const n = numel(shape)
    const isNorm = /norm[^.]*\.weight$/.test(name)
    const values = shape.length > 1 ? normals(n, decoder.spec.initStd, seed, index) : new Float32Array(n).fill(isNorm ? 1 - decoder.spec.normOffset : 0)
    const view = unit.view(slot)
    write(view, values)
    view.dispose()
  }
}

/** A fresh value head: normal with std 1 / sqrt(E + 1), the critic initialisation of Stiennon et al. 2020. */
export function initializeValueHead(decoder: Decoder, seed: number, write: (t: Tensor, values: Float32Array) => void): void {
  const { embedWidth } = decoder.spec
  const view = decoder.head.view('value.weight')
  write(view, normals(embedWidth, 1 / Math.sqrt(embedWidth + 1), seed, 0))
  view.dispose()
}
