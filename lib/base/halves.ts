// The 16-bit floats that JavaScript lacks, as their bits.

const oneFloat = new Float32Array(1)
const oneWord = new Uint32Array(oneFloat.buffer)

function floatOf(bits: number): number {
  oneWord[0] = bits
  return oneFloat[0]!
}

/** fp32 bits -> bf16 bits, rounded to nearest, ties to even; a NaN stays a NaN. */
function bf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** fp32 bits -> fp16 bits, rounded to nearest, ties to even; overflow is infinity, small values become subnormal. */
function f16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  // 65520 and above round past the largest fp16, 65504.
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13)
  }
  // Subnormal results count in units of 2^-24; the product is exact in a double, so one rounding happens.
  const units = floatOf(magnitude) * 2 ** 24
  const below = Math.floor(units)
  const rest = units - below
  const up = rest > 0.5 || (rest === 0.5 && below % 2 === 1)
  return sign | (up ? below + 1 : below)
}

function f16Value(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >>> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}

/** fp32 [n] -> bf16 bits [n], nearest even. */
export function f32ToBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  // loops: TypedArray.from with a function takes ten times as long
  const halves = new Uint16Array(bits.length)
  for (let i = 0; i < bits.length; i++) halves[i] = bf16Bits(bits[i]!)
  return halves
}

/** bf16 bits [n] -> fp32 [n], exact. */
export function bf16ToF32(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16
  return new Float32Array(bits.buffer)
}

/** fp32 [n] -> fp16 bits [n], nearest even. */
export function f32ToF16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const halves = new Uint16Array(bits.length)
  for (let i = 0; i < bits.length; i++) halves[i] = f16Bits(bits[i]!)
  return halves
}

/** fp16 bits [n] -> fp32 [n], exact. */
export function f16ToF32(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length)
  for (let i = 0; i < halves.length; i++) values[i] = f16Value(halves[i]!)
  return values
}
