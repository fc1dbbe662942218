/** Element types as safetensors names them. */
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../base/halves.js'
import type { DType } from '../tensor/device.js'

/** Bytes of one element. */
export const dtypeBytes = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const

export type StoredDtype = keyof typeof dtypeBytes

/** How files name the types of devices. */
export const storedAs = { fp32: 'F32', bf16: 'BF16', fp16: 'F16', int32: 'I32' } as const satisfies Record<DType, StoredDtype>

export function isStoredDtype(value: unknown): value is StoredDtype {
  return typeof value === 'string' && Object.hasOwn(dtypeBytes, value)
}

/** True for the types that toFloat32 reads. */
export function isFloatDtype(dtype: StoredDtype): dtype is 'F64' | 'F32' | 'F16' | 'BF16' {
  return dtype === 'F64' || dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

/** The bytes of a float tensor as fp32 (F64 is rounded). A view where it is F32 already and aligned, else a copy. */
export function toFloat32(bytes: Uint8Array, dtype: 'F64' | 'F32' | 'F16' | 'BF16'): Float32Array {
  const size = dtypeBytes[dtype]
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  const count = bytes.byteLength / size
  switch (dtype) {
    case 'F32':
      return new Float32Array(aligned.buffer, aligned.byteOffset, count)
    case 'F64':
      return Float32Array.from(new Float64Array(aligned.buffer, aligned.byteOffset, count))
    case 'BF16':
      return bf16ToF32(new Uint16Array(aligned.buffer, aligned.byteOffset, count))
    case 'F16':
      return f16ToF32(new Uint16Array(aligned.buffer, aligned.byteOffset, count))
  }
}

/** fp32 -> the bytes of a float tensor of the given type. */
export function fromFloat32(values: Float32Array, dtype: 'F64' | 'F32' | 'F16' | 'BF16'): Uint8Array {
  const stored =
    dtype === 'F32'
      ? values
      : dtype === 'F64'
        ? Float64Array.from(values)
        : dtype === 'BF16'
          ? f32ToBf16(values)
          : f32ToF16(values)
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
}
