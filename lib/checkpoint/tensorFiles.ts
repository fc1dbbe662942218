/** What every reader of stored weights needs: bytes at an offset, element counts, and a view gathered into a row. */
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { fail } from '../base/errors.js'
import { failOnFile } from '../base/files.js'
import { dtypeBytes } from './storedDtype.js'
import type { StoredTensor } from './storedTensors.js'

/** Fails with the file's name in the message. A reader hands one to its parts, which then need not know the file. */
export type Refuse = (expected: string, received: string, cure?: string) => never

/** One read call takes at most 2^31 - 1 bytes; smaller pieces keep the thread pool free for others. */
const readBytes = 1 << 26

/** Opens a file for the time of one call. Errors of the file system name the file. */
export async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle | null = null
  try {
    handle = await open(file, 'r')
    return await use(handle)
  } catch (error) {
    return failOnFile(error, `to read ${file}`)
  } finally {
    await handle?.close()
  }
}

/** Fills `into` from a byte of the file on. Error: the file ends before. */
export async function readAt(handle: FileHandle, into: Uint8Array, position: number, file: string): Promise<void> {
  for (let done = 0; done < into.byteLength;) {
    const wanted = Math.min(readBytes, into.byteLength - done)
    const { bytesRead } = await handle.read(into, done, wanted, position + done)
    if (bytesRead === 0) {
      const expected = `${into.byteLength} bytes at offset ${position} in ${file}`
      fail('weights', expected, `only ${done}`, 'to copy or download the file again')
    }
    done += bytesRead
  }
}

/** Elements of a shape: 1 for a scalar, 0 where any extent is. Beyond 2^53 it is rounded, or infinite. */
export function elementCount(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((product, extent) => product * extent, 1)
}

/** Text from a file as an error message may show it: quoted, and cut where it is long. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text)
}

/** A tensor's bytes, row-major, in an array of its own (so a typed view on `.buffer` is aligned). */
export async function readTensor(entry: StoredTensor): Promise<Uint8Array> {
  const bytes = new Uint8Array(entry.end - entry.begin)
  await withFile(entry.file, (handle) => readAt(handle, bytes, entry.begin, entry.file))
  return entry.strides === undefined ? bytes : gather(bytes, entry.shape, entry.strides, dtypeBytes[entry.dtype])
}

/** The elements of a view (strides in elements, the first element at byte 0), row-major. */
function gather(bytes: Uint8Array, shape: readonly number[], strides: readonly number[], elementBytes: number): Uint8Array {
  if (elementBytes === 1) return gatherElements(bytes, new Uint8Array(elementCount(shape)), shape, strides)
  const into = new Uint8Array(elementCount(shape) * elementBytes)
  if (elementBytes === 2) {
    gatherElements(new Uint16Array(bytes.buffer), new Uint16Array(into.buffer), shape, strides)
  } else if (elementBytes === 4) {
    gatherElements(new Uint32Array(bytes.buffer), new Uint32Array(into.buffer), shape, strides)
  } else {
    // Eight bytes are two words that stand side by side.
    const doubled = strides.map((stride) => stride * 2)
    gatherElements(new Uint32Array(bytes.buffer), new Uint32Array(into.buffer), [...shape, 2], [...doubled, 1])
  }
  return into
}

function gatherElements<T extends Uint8Array | Uint16Array | Uint32Array>(
  from: T,
  into: T,
  shape: readonly number[],
  strides: readonly number[],
): T {
  let at = 0
  const walk = (dimension: number, offset: number): void => {
    const extent = shape[dimension]!
    const stride = strides[dimension]!
    if (dimension === shape.length - 1) {
      for (let index = 0; index < extent; index++) into[at++] = from[offset + index * stride]!
    } else {
      for (let index = 0; index < extent; index++) walk(dimension + 1, offset + index * stride)
    }
  }
  walk(0, 0)
  return into
}
