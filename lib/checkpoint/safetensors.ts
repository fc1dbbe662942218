/**
 * Reading safetensors files: 8 bytes little-endian header length, a JSON header, then the tensors' bytes. The whole
 * header is checked against the file's size before any tensor is read, so a torn file fails at once and by name.
 * Format: github.com/huggingface/safetensors, README "Format".
 */
import { isUtf8 } from 'node:buffer'
import { fail } from '../base/errors.js'
import { isJsonObject, kindOf } from '../base/json.js'
import { dtypeBytes, isStoredDtype } from './storedDtype.js'
import type { StoredTensor, WeightFile } from './storedTensors.js'
import { elementCount, readAt, readTensor, shown, withFile } from './tensorFiles.js'

const lengthBytes = 8
/** The reference implementation's own limit. */
const maxHeaderBytes = 100_000_000

function failOn(file: string, expected: string, received: string, cure = 'to copy or download the file again'): never {
  fail('safetensors', `${expected} in ${file}`, received, cure)
}

export class SafetensorsFile implements WeightFile {
  private constructor(
    readonly file: string,
    /** In the order of their bytes. */
    readonly entries: ReadonlyMap<string, StoredTensor>,
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** Reads and checks the header. The file is not kept open. */
  static async open(file: string): Promise<SafetensorsFile> {
    return withFile(file, async (handle) => {
      const { size } = await handle.stat()
      if (size < lengthBytes) failOn(file, `at least ${lengthBytes} bytes`, `${size}`)
      const head = Buffer.alloc(lengthBytes)
      await readAt(handle, head, 0, file)
      const headerLength = head.readBigUInt64LE()
      if (headerLength > BigInt(maxHeaderBytes))
        failOn(file, `a header of at most ${maxHeaderBytes} bytes`, `a length of ${headerLength}`)
      const dataStart = lengthBytes + Number(headerLength)
      if (dataStart > size) failOn(file, `a header of ${headerLength} bytes`, `a file of ${size} bytes`)
      const header = Buffer.alloc(Number(headerLength))
      await readAt(handle, header, lengthBytes, file)
      const { entries, metadata } = checkHeader(parseHeader(header, file), dataStart, size, file)
      return new SafetensorsFile(file, entries, metadata)
    })
  }

  entry(name: string): StoredTensor {
    const entry = this.entries.get(name)
    if (entry !== undefined) return entry
    failOn(
      this.file,
      `the tensor ${shown(name)}`,
      `${this.entries.size} tensors without it`,
      'the checkpoint of the model that config.json describes',
    )
  }

  /** One tensor's bytes, in an array of its own (so a typed view on `.buffer` is aligned). */
  async read(name: string): Promise<Uint8Array> {
    return readTensor(this.entry(name))
  }

  /** Fills `into` with the tensor's bytes from byte `from` of the tensor on, to read a large one in pieces. */
  async readInto(name: string, into: Uint8Array, from = 0): Promise<void> {
    const { begin, end } = this.entry(name)
    if (from < 0 || begin + from + into.byteLength > end) {
      failOn(
        this.file,
        `a range within the ${end - begin} bytes of ${shown(name)}`,
        `${from} to ${from + into.byteLength}`,
        'a smaller piece',
      )
    }
    await withFile(this.file, (handle) => readAt(handle, into, begin + from, this.file))
  }
}

function parseHeader(bytes: Buffer, file: string): Record<string, unknown> {
  if (!isUtf8(bytes)) failOn(file, 'a header in UTF-8', 'other bytes')
  let header: unknown
  try {
    header = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    failOn(file, 'a header in JSON', error instanceof Error ? error.message : String(error))
  }
  if (isJsonObject(header)) return header
  failOn(file, 'a header that is a JSON object', kindOf(header))
}

interface Header {
  readonly entries: Map<string, StoredTensor>
  readonly metadata: Record<string, string>
}

function checkHeader(header: Record<string, unknown>, dataStart: number, size: number, file: string): Header {
  const found: StoredTensor[] = []
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') found.push(checkEntry(name, value, dataStart, size, file))
  }
  // Empty tensors share an offset with their neighbour; by end they sort before it.
  found.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let expected = dataStart
  for (const { name, begin, end } of found) {
    if (begin !== expected) {
      const problem = begin < expected ? 'an overlap with the tensor before it' : 'a gap before it'
      failOn(
        file,
        `tensor ${shown(name)} to begin at byte ${expected - dataStart} of the data`,
        `byte ${begin - dataStart}, ${problem}`,
      )
    }
    expected = end
  }
  if (expected !== size) failOn(file, `${expected} bytes in all`, `${size}`)
  return { entries: new Map(found.map((entry) => [entry.name, entry])), metadata: checkMetadata(header['__metadata__'], file) }
}

function checkEntry(name: string, value: unknown, dataStart: number, size: number, file: string): StoredTensor {
  const tensor = `tensor ${shown(name)}`
  if (!isJsonObject(value)) failOn(file, `an object for ${tensor}`, kindOf(value))
  const { dtype, shape, data_offsets: offsets } = value
  if (!isStoredDtype(dtype)) {
    const expected = `a dtype of ${Object.keys(dtypeBytes).join(', ')} for ${tensor}`
    failOn(file, expected, brief(dtype), 'to save the checkpoint in one of these types')
  }
  if (!isCountList(shape)) failOn(file, `a shape of whole numbers for ${tensor}`, brief(shape))
  if (!isCountList(offsets) || offsets.length !== 2)
    failOn(file, `two data_offsets for ${tensor}`, brief(offsets))
  const [from, to] = offsets as [number, number]
  const available = size - dataStart
  if (from > to || to > available) {
    failOn(file, `data_offsets within the ${available} bytes of data for ${tensor}`, `${from} to ${to}`)
  }
  const bytes = elementCount(shape) * dtypeBytes[dtype]
  if (to - from !== bytes) failOn(file, `${bytes} bytes for ${tensor} (${dtype} [${shape.join(', ')}])`, `${to - from}`)
  return { name, dtype, shape, file, begin: dataStart + from, end: dataStart + to }
}

/** A value of the header for an error message. Only flat lists are shown: JSON.stringify fails on deep ones. */
function brief(value: unknown): string {
  if (typeof value === 'string') return shown(value)
  const isFlat = Array.isArray(value) && value.length <= 16 && value.every((item) => typeof item === 'number')
  return isFlat ? JSON.stringify(value) : kindOf(value)
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count: unknown) => Number.isSafeInteger(count) && (count as number) >= 0)
}

function checkMetadata(value: unknown, file: string): Record<string, string> {
  if (value === undefined) return {}
  if (!isJsonObject(value)) failOn(file, 'an object in "__metadata__"', kindOf(value))
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') failOn(file, `a string in "__metadata__" field ${shown(key)}`, kindOf(text))
  }
  return value as Record<string, string>
}
