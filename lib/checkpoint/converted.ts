// Stored tensors on their way into new files: other names, another type, a piece at a time.
import { fail } from '../base/errors.js'
import type { TensorSource } from './safetensorsWriter.js'
import { dtypeBytes, fromFloat32, isFloatDtype, toFloat32 } from './storedDtype.js'
import type { StoredDtype } from './storedDtype.js'
import type { StoredTensor } from './storedTensors.js'
import { readAt, readTensor, withFile } from './tensorFiles.js'
import { headName, isBuffer } from './weights.js'

/** Elements that are in memory at once. */
const pieceElements = 1 << 20

export type FloatDtype = 'F32' | 'BF16' | 'F16'

/**
 * The tensors as they will be written, floats in `dtype` (null: as they are). `names` gives stock names for stored ones;
 * what it does not name keeps its own. Left out: buffers, and an output projection that is the same bytes as the embedding.
 */
export function convertedTensors(entries: ReadonlyMap<string, StoredTensor>, dtype: FloatDtype | null, names: ReadonlyMap<string, string> | null): TensorSource[] {
  const place = ({ file, begin, end, strides }: StoredTensor): string => JSON.stringify([file, begin, end, strides])
  const others = new Set([...entries.values()].filter(({ name }) => !headName.test(name)).map(place))
  const stock = new Map([...(names ?? [])].map(([to, from]) => [from, to]))
  return [...entries.values()]
    .filter((entry) => !isBuffer(entry.name) && !(headName.test(entry.name) && others.has(place(entry))))
    .map((entry): TensorSource => {
      const to = dtype !== null && isFloatDtype(entry.dtype) ? dtype : entry.dtype
      const name = stock.get(entry.name) ?? entry.name
      return { name, dtype: to, shape: entry.shape, data: () => piecesOf(entry, to) }
    })
}

/** The tensor's bytes, row-major, in type `to`. Error: a finite number that type cannot hold. */
async function* piecesOf(entry: StoredTensor, to: StoredDtype): AsyncGenerator<Uint8Array> {
  if (entry.strides) return yield casted(await readTensor(entry), entry, to)
  const size = pieceElements * dtypeBytes[entry.dtype]
  for (let at = entry.begin; at < entry.end; at += size) {
    const bytes = new Uint8Array(Math.min(size, entry.end - at))
    await withFile(entry.file, (handle) => readAt(handle, bytes, at, entry.file))
    yield casted(bytes, entry, to)
  }
}

function casted(bytes: Uint8Array, { dtype, name, file }: StoredTensor, to: StoredDtype): Uint8Array {
  if (to === dtype || !isFloatDtype(dtype) || !isFloatDtype(to)) return bytes
  const values = toFloat32(bytes, dtype)
  if (to === 'F16') {
    const large = values.find((x) => Math.abs(x) >= 65520 && Math.abs(x) < Infinity)
    if (large !== undefined) fail('convert', `numbers that fp16 can hold (up to 65504) in ${name} of ${file}`, String(large), '--dtype bf16')
  }
  return fromFloat32(values, to)
}
