// A device: where tensors live and ops run. One per process is usual; several are fine.
import { fail } from '../base/errors.js'
import { bf16ToF32, f16ToF32 } from '../base/halves.js'
import { findBackend } from '../binding/load.js'
import { native } from '../binding/native.js'
import type { Category, DType, NativeDevice, Tensor } from '../binding/native.js'

export type { Category, DType, MemoryStats, NativeBatch, NativeDevice, Tensor } from '../binding/native.js'

export interface DeviceOptions {
  /** "cpu" (the default), "cuda", "cuda:N" (the N-th GPU) or "emulated" (CUDA's kernels, run by the CPU: for tests). */
  device?: string
  /** 0 = all cores. Never changes a result. */
  threads?: number
}

/** The names of devices. */
export const devicePattern = /^(cpu|emulated|cuda(:\d{1,3})?)$/

/** What weights and activations are stored as unless told: bf16 on a GPU, whose tensor cores take it, fp32 elsewhere. */
export function defaultDtype(device: string): 'fp32' | 'bf16' {
  return device.startsWith('cuda') ? 'bf16' : 'fp32'
}

/**
 * Opens a device. Errors: an unknown device, an instruction set the CPU lacks (THREEFOLD_ISA), no CUDA in this build, no
 * driver or one too old, no such GPU.
 */
export function createDevice({ device = 'cpu', threads = 0 }: DeviceOptions = {}): NativeDevice & Disposable {
  if (!devicePattern.test(device)) fail('device', 'cpu, cuda, cuda:N or emulated', `"${device}"`, '--device cpu')
  const [kind, index = '0'] = device.split(':') as ['cpu' | 'cuda' | 'emulated', string?]
  const opened = new (native().Device)({ threads, kind, index: Number(index), ...(kind !== 'cpu' && { module: findBackend(kind) }) })
  return Object.assign(opened, { [Symbol.dispose]: () => opened.dispose() })
}

/** fp32 numbers as a new tensor. */
export function fromFloats(device: NativeDevice, data: Float32Array, shape: number[], category: Category = 'activations'): Tensor {
  const t = device.alloc({ dtype: 'fp32', shape, category })
  t.write(data)
  return t
}

/** The values of a tensor of floats as fp32. */
export async function readFloats(t: Tensor): Promise<Float32Array> {
  const raw = await t.read()
  if (raw instanceof Float32Array) return raw
  if (raw instanceof Int32Array) fail('tensor.read', 'an fp32, bf16 or fp16 tensor', t.dtype, 'casting it first')
  return t.dtype === 'bf16' ? bf16ToF32(raw) : f16ToF32(raw)
}

/** Elements of a shape. */
export function numel(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1)
}

/** Bytes of one element. */
export function bytesOf(dtype: DType): number {
  return dtype === 'fp32' || dtype === 'int32' ? 4 : 2
}
