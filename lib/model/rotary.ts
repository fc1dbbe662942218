// Cosines and sines of rotary positions (Su et al. 2021), computed in double precision once per model.
import type { NativeDevice, Tensor } from '../tensor/device.js'
import { fromFloats } from '../tensor/device.js'
import type { Rope } from './spec.js'

/** fp32 [positions, R / 2, 2]: cos and sin of position * frequency, times the attention factor. */
export function rotaryTable(device: NativeDevice, positions: number, { frequencies, attentionFactor }: Rope): Tensor {
  const half = frequencies.length
  const data = new Float32Array(positions * half * 2)
  for (const [i, frequency] of frequencies.entries()) {
    for (let p = 0; p < positions; p++) {
      data[(p * half + i) * 2] = attentionFactor * Math.cos(p * frequency)
      data[(p * half + i) * 2 + 1] = attentionFactor * Math.sin(p * frequency)
    }
  }
  return fromFloats(device, data, [positions, half, 2], 'parameters')
}
