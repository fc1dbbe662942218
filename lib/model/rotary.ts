// Cosines and sines of rotary positions (Su et al. 2021), computed in double precision once per model.
import type { NativeDevice, Tensor } from '../tensor/device.js'
import { fromFloats } from '../tensor/device.js'

/** fp32 [positions, dims / 2, 2]: cos and sin of position * theta^(-2i / dims). */
export function rotaryTable(device: NativeDevice, positions: number, dims: number, theta: number): Tensor {
  const half = dims / 2
  const data = new Float32Array(positions * half * 2)
  for (let i = 0; i < half; i++) {
    const frequency = theta ** ((-2 * i) / dims)
    for (let p = 0; p < positions; p++) {
      data[(p * half + i) * 2] = Math.cos(p * frequency)
      data[(p * half + i) * 2 + 1] = Math.sin(p * frequency)
    }
  }
  return fromFloats(device, data, [positions, half, 2], 'parameters')
}
