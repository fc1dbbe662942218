/**
 * Thrift's compact protocol, read with bounds: the form of a Parquet footer and of its page headers. Every count is
 * checked against the bytes that are left before anything is allocated for it.
 * Source: the Apache Thrift specification, doc/specs/thrift-compact-protocol.md.
 */

export type ThriftValue = boolean | number | Uint8Array | ThriftValue[] | ThriftStruct
export type ThriftStruct = Map<number, ThriftValue>

/** What is wrong with the bytes; the reader of a file puts it into an error that names the file. */
export class BadBytes extends Error {
  constructor(
    message: string,
    readonly cure = 'to copy or download it again, or to write it again, for instance with pyarrow',
  ) {
    super(message)
  }
}

/** For a file that may be whole, but would take more memory than its size allows. */
export const smallerGroups = 'to write it again with smaller row groups, for instance with row_group_size=10000 in pyarrow'


const maxDepth = 24
const type = { stop: 0, true: 1, false: 2, byte: 3, i16: 4, i32: 5, i64: 6, double: 7, binary: 8, list: 9, set: 10, struct: 12 } as const

export class CompactReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  offset: number

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.offset = offset
  }

  /** Reads a struct; with `keep` false it is only checked, and the result is empty. */
  struct(keep = true, depth = 0): ThriftStruct {
    if (depth > maxDepth) throw new BadBytes(`structures nested deeper than ${maxDepth}`)
    const fields: ThriftStruct = new Map()
    let id = 0
    for (;;) {
      const head = this.#byte()
      const kind = head & 0x0f
      if (kind === type.stop) return fields
      id = head >> 4 === 0 ? this.#zigzag() : id + (head >> 4)
      const value = this.#value(kind, keep, depth)
      if (keep) fields.set(id, value)
    }
  }

  #byte(): number {
    const byte = this.#bytes[this.offset]
    if (byte === undefined) throw new BadBytes('a structure that does not end')
    this.offset++
    return byte
  }

  /** Unsigned, of at most 64 bits; above 2^53 the value is inexact, which no count or offset may be anyway. */
  #varint(): number {
    let value = 0
    for (let place = 1, length = 0; ; place *= 128) {
      const byte = this.#byte()
      value += (byte & 0x7f) * place
      if (byte < 0x80) return value
      if (++length === 10) throw new BadBytes('a number of more than 64 bits')
    }
  }

  #zigzag(): number {
    const value = this.#varint()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  #value(kind: number, keep: boolean, depth: number): ThriftValue {
    switch (kind) {
      case type.true:
        return true
      case type.false:
        return false
      case type.byte:
        return (this.#byte() << 24) >> 24
      case type.i16:
      case type.i32:
      case type.i64:
        return this.#zigzag()
      case type.double:
        if (this.offset + 8 > this.#bytes.length) throw new BadBytes('a structure that does not end')
        this.offset += 8
        return this.#view.getFloat64(this.offset - 8, true)
      case type.binary: {
        const length = this.#varint()
        if (length > this.#bytes.length - this.offset) throw new BadBytes(`a text of ${length} bytes where ${this.#bytes.length - this.offset} are left`)
        this.offset += length
        return this.#bytes.subarray(this.offset - length, this.offset)
      }
      case type.list:
      case type.set:
        return this.#list(keep, depth)
      case type.struct:
        return this.struct(keep, depth + 1)
      default:
        throw new BadBytes(`a field of the unknown type ${kind}`)
    }
  }

  #list(keep: boolean, depth: number): ThriftValue[] {
    if (depth > maxDepth) throw new BadBytes(`structures nested deeper than ${maxDepth}`)
    const head = this.#byte()
    const kind = head & 0x0f
    const count = head >> 4 === 15 ? this.#varint() : head >> 4
    // each element takes a byte at least
    if (count > this.#bytes.length - this.offset) throw new BadBytes(`a list of ${count} in ${this.#bytes.length - this.offset} bytes`)
    const values: ThriftValue[] = []
    for (let i = 0; i < count; i++) {
      const value = kind === type.true || kind === type.false ? this.#byte() === 1 : this.#value(kind, keep, depth + 1)
      if (keep) values.push(value)
    }
    return values
  }
}

/** Writes a struct of whole numbers, booleans and such structs, as page headers are. */
export function compactStruct(fields: ThriftStruct): number[] {
  const bytes: number[] = []
  const varint = (value: number): void => {
    let left = value
    for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) | 0x80)
    bytes.push(left)
  }
  let last = 0
  for (const [id, value] of [...fields].sort(([a], [b]) => a - b)) {
    const kind = value instanceof Map ? type.struct : typeof value === 'boolean' ? (value ? type.true : type.false) : type.i32
    bytes.push(((id - last) << 4) | kind) // the ids of page headers lie closer than 16
    last = id
    if (value instanceof Map) bytes.push(...compactStruct(value))
    else if (typeof value === 'number') varint(value >= 0 ? 2 * value : -2 * value - 1)
  }
  return [...bytes, type.stop]
}
