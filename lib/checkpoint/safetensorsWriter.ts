/** Writing safetensors files, one tensor's bytes at a time, so that a model is never in memory twice. */
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { fail } from '../base/errors.js'
import { atomicFile } from '../base/files.js'
import type { StoredDtype } from './storedDtype.js'
import { dtypeBytes } from './storedDtype.js'

/** One tensor to write. `data` is called when its turn comes; its pieces are written and can be forgotten. */
export interface TensorSource {
  readonly name: string
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  readonly data: () => Promise<Uint8Array> | AsyncIterable<Uint8Array>
}

/** A tensor whose bytes are in memory already. */
export function tensorOf(name: string, dtype: StoredDtype, shape: readonly number[], values: ArrayBufferView): TensorSource {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { name, dtype, shape, data: () => Promise.resolve(bytes) }
}

/** Bytes of a tensor's data. */
export function tensorBytes({ dtype, shape }: Pick<TensorSource, 'dtype' | 'shape'>): number {
  return shape.reduce((product, extent) => product * extent, dtypeBytes[dtype])
}

/** The order in the file: wide types first, which keeps every tensor aligned to its element, then by name. */
function inFileOrder(tensors: readonly TensorSource[]): TensorSource[] {
  return [...tensors].sort((a, b) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype] || (a.name < b.name ? -1 : 1))
}

function headerOf(tensors: readonly TensorSource[], metadata: Readonly<Record<string, string>>): Buffer {
  const header: [string, unknown][] = [['__metadata__', metadata]]
  let offset = 0
  const names = new Set<string>(['__metadata__'])
  for (const tensor of tensors) {
    if (names.has(tensor.name)) fail('safetensors', 'each tensor name once', `"${tensor.name}" again`, 'other names')
    names.add(tensor.name)
    const end = offset + tensorBytes(tensor)
    header.push([tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] }])
    offset = end
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)))
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  padded.writeBigUInt64LE(BigInt(padded.length - 8))
  json.copy(padded, 8)
  return padded
}

/**
 * Writes a file, whole or not at all. Error: data that is not exactly as long as dtype and shape say, naming the
 * tensor. transformers wants the metadata {format: "pt"}.
 */
export async function writeSafetensors(
  file: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const ordered = inFileOrder(tensors)
  const header = headerOf(ordered, metadata)
  await atomicFile(file, async (temporary) => {
    const handle = await open(temporary, 'wx')
    try {
      await writeAll(handle, header)
      for (const tensor of ordered) await writeTensor(handle, tensor, file)
    } finally {
      await handle.close()
    }
  })
}

async function writeTensor(handle: FileHandle, tensor: TensorSource, file: string): Promise<void> {
  const expected = tensorBytes(tensor)
  let written = 0
  const data = tensor.data()
  if (Symbol.asyncIterator in data) {
    for await (const piece of data) {
      await writeAll(handle, piece)
      written += piece.byteLength
    }
  } else {
    const bytes = await data
    await writeAll(handle, bytes)
    written = bytes.byteLength
  }
  if (written === expected) return
  fail(
    'safetensors',
    `${expected} bytes for tensor "${tensor.name}" of ${file}`,
    `${written}`,
    'data of the dtype and shape that were announced',
  )
}

/** FileHandle.write may write less than it was given. */
async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(1 << 26, bytes.byteLength - done))
    done += bytesWritten
  }
}
