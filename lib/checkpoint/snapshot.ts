// What a run must keep to go on: numbers, and tensors as they were at one moment.
import { fail } from '../base/errors.js'
import type { Tensor } from '../tensor/device.js'
import type { SafetensorsFile } from './safetensors.js'
import type { TensorSource } from './safetensorsWriter.js'
import { tensorOf } from './safetensorsWriter.js'
import { storedAs } from './storedDtype.js'

export interface Snapshot {
  /** Whatever JSON holds exactly. */
  numbers: Record<string, unknown>
  tensors: TensorSource[]
}

/** A snapshot read back. */
export interface Stored {
  numbers: Record<string, unknown>
  tensors: SafetensorsFile
}

/** A tensor's values after what is enqueued now: ops that come later do not show, and nothing waits. */
export function taken(name: string, tensor: Tensor): TensorSource {
  const values = tensor.read()
  values.catch(() => undefined) // who writes the snapshot hears of it
  const bytes = async (): Promise<Uint8Array> => {
    const array = await values
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  }
  return { name, dtype: storedAs[tensor.dtype], shape: tensor.shape, data: bytes }
}

/** Numbers in memory, as they are now; the caller changes them no more. */
export function takenArray(name: string, values: Float32Array | Float64Array | Int32Array): TensorSource {
  const dtype = values instanceof Float64Array ? 'F64' : values instanceof Int32Array ? 'I32' : 'F32'
  return tensorOf(name, dtype, [values.length], values)
}

/** Writes stored values into a tensor. Error: they are of another type or shape, as those of another model. */
export async function putBack(stored: Stored, name: string, tensor: Tensor): Promise<void> {
  const entry = stored.tensors.entry(name)
  const [want, have] = [{ dtype: storedAs[tensor.dtype], shape: tensor.shape }, entry]
  if (have.dtype !== want.dtype || have.shape.join() !== want.shape.join())
    fail('checkpoint', `${name} as ${want.dtype} [${want.shape.join(', ')}] in ${entry.file}`, `${have.dtype} [${have.shape.join(', ')}]`, 'the checkpoint of this model, or --resume never to start anew')
  const bytes = await stored.tensors.read(name)
  const make = { F32: Float32Array, I32: Int32Array, BF16: Uint16Array, F16: Uint16Array }[want.dtype]
  tensor.write(new make(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength / make.BYTES_PER_ELEMENT))
}

/** Error: a tensor that training does not change is not what it was. */
export async function expectUnchanged(stored: Stored, name: string, tensor: Tensor): Promise<void> {
  const entry = stored.tensors.entries.get(name)
  const now = await tensor.read()
  const then = entry && (await stored.tensors.read(name))
  if (!then || Buffer.compare(then, new Uint8Array(now.buffer, now.byteOffset, now.byteLength)) !== 0)
    fail('checkpoint', `the weights that ${stored.tensors.file} was trained beside (${name})`, 'others', 'the model the run began with, or --resume never to start anew')
}

/** Stored numbers as an array. */
export async function storedArray<A extends Float32Array | Float64Array | Int32Array>(stored: Stored, name: string, make: new (buffer: ArrayBuffer, offset: number, length: number) => A): Promise<A> {
  const bytes = await stored.tensors.read(name)
  return new make(bytes.buffer as ArrayBuffer, bytes.byteOffset, stored.tensors.entry(name).shape[0]!)
}
