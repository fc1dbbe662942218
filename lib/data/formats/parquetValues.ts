/**
 * Checks of the encoded values in a Parquet page, before hyparquet decodes them: it allocates and loops by the counts it
 * finds. Source of the encodings: the Apache Parquet specification, Encodings.md.
 */
import type { Leaf } from './parquetFooter.js'
import { BadBytes } from './thrift.js'

const lengthOf = (bytes: Uint8Array, offset: number): number => {
  if (offset + 4 > bytes.length) throw new BadBytes('values that end early')
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true)
}

/** A number of at most 64 bits in groups of seven (inexact above 2^53, which no count is); gives it and the offset behind it. */
function varint(bytes: Uint8Array, offset: number): [value: number, next: number] {
  let value = 0
  for (let i = 0, place = 1; i < 10; i++, place *= 128) {
    const byte = bytes[offset + i]
    if (byte === undefined) break
    value += (byte & 0x7f) * place
    if (byte < 0x80) return [value, offset + i + 1]
  }
  throw new BadBytes('a number that does not end')
}

/**
 * Decodes `count` numbers of `width` bits in the hybrid of runs and bit-packed groups (RLE). The runs must give exactly
 * that many, but for the padding of the last group.
 */
export function hybridNumbers(bytes: Uint8Array, start: number, width: number, count: number): Int32Array {
  if (width > 31) throw new BadBytes(`numbers of ${width} bits`)
  const numbers = new Int32Array(count)
  let offset = start
  let done = 0
  while (done < count) {
    const [head, next] = varint(bytes, offset)
    offset = next
    if (head % 2 === 0) {
      const run = head / 2
      if (run === 0 || run > count - done) throw new BadBytes(`a run of ${run} numbers where ${count - done} are left`)
      let value = 0
      const size = Math.ceil(width / 8)
      for (let i = 0; i < size; i++) value += (bytes[offset + i] ?? Number.NaN) * 2 ** (8 * i)
      if (Number.isNaN(value)) throw new BadBytes('values that end early')
      offset += size
      numbers.fill(value, done, done + run)
      done += run
    } else {
      const groups = (head - 1) / 2
      if (groups === 0 || groups * 8 >= count - done + 512) throw new BadBytes(`${groups * 8} numbers where ${count - done} are left`)
      const last = Math.min(count, done + groups * 8)
      // the bytes of padding may be cut off at the end of the page
      if (offset + Math.ceil(((last - done) * width) / 8) > bytes.length) throw new BadBytes('values that end early')
      for (let bit = 0; done < last; done++, bit += width) numbers[done] = bitsAt(bytes, offset * 8 + bit, width)
      offset += groups * width
    }
  }
  return numbers
}

function bitsAt(bytes: Uint8Array, bit: number, width: number): number {
  let value = 0
  for (let got = 0; got < width; ) {
    const within = (bit + got) % 8
    const take = Math.min(8 - within, width - got)
    const byte = bytes[(bit + got - within) / 8]!
    value += ((byte >> within) & ((1 << take) - 1)) * 2 ** got
    got += take
  }
  return value
}

/** Bytes of one value of a type with a fixed size; null for texts. */
function fixedSize({ type, type_length: length }: Leaf['element']): number | null {
  switch (type) {
    case 'INT32':
    case 'FLOAT':
      return 4
    case 'INT64':
    case 'DOUBLE':
      return 8
    case 'INT96':
      return 12
    case 'FIXED_LEN_BYTE_ARRAY':
      if (length === undefined || !(length > 0)) throw new BadBytes(`values of ${String(length)} bytes`)
      return length
    default:
      return null
  }
}

export function checkPlain(bytes: Uint8Array, start: number, count: number, element: Leaf['element']): void {
  const size = element.type === 'BOOLEAN' ? 1 / 8 : fixedSize(element)
  if (size !== null) {
    if (start + Math.ceil(count * size) > bytes.length) throw new BadBytes('values that end early')
    return
  }
  let offset = start
  for (let i = 0; i < count; i++) {
    offset += 4 + lengthOf(bytes, offset)
    if (offset > bytes.length) throw new BadBytes('a text that is longer than its page')
  }
}

/** Sizes of the blocks of a delta encoding, and its first value: counts that hyparquet allocates by. */
function deltaHead(bytes: Uint8Array, start: number): { miniblocks: number; perMiniblock: number; first: number; next: number } {
  const [blockSize, a] = varint(bytes, start)
  const [miniblocks, b] = varint(bytes, a)
  const [, c] = varint(bytes, b)
  if (blockSize === 0 || blockSize > 2 ** 20 || miniblocks === 0 || blockSize % (miniblocks * 8) !== 0) throw new BadBytes(`blocks of ${blockSize} numbers in ${miniblocks} parts`)
  const [first, next] = varint(bytes, c)
  return { miniblocks, perMiniblock: blockSize / miniblocks, first, next }
}

const unzigzag = (value: number): number => (value % 2 === 0 ? value / 2 : -(value + 1) / 2)

/** Decodes 32-bit numbers of a delta encoding: the lengths of texts. */
function deltaNumbers(bytes: Uint8Array, start: number, count: number): { numbers: Int32Array; next: number } {
  const { miniblocks, perMiniblock, first, next } = deltaHead(bytes, start)
  const numbers = new Int32Array(count)
  let value = unzigzag(first)
  if (count > 0) numbers[0] = value
  let done = 1
  let offset = next
  while (done < count) {
    const [least, widths] = varint(bytes, offset)
    offset = widths + miniblocks
    for (let part = 0; part < miniblocks && done < count; part++) {
      const width = bytes[widths + part] ?? 64
      const size = (perMiniblock * width) / 8
      if (width > 32 || offset + size > bytes.length) throw new BadBytes('values that end early')
      for (let i = 0; i < perMiniblock && done < count; i++) {
        value = (value + unzigzag(least) + bitsAt(bytes, offset * 8 + i * width, width)) | 0
        numbers[done++] = value
      }
      offset += size
    }
  }
  return { numbers, next: offset }
}

/** Texts that are stored by their lengths, or by what they share with the text before; `budget` bounds their sum. */
function checkTexts(bytes: Uint8Array, start: number, count: number, shared: boolean, budget: number): void {
  const prefixes = shared ? deltaNumbers(bytes, start, count) : null
  const { numbers: lengths, next } = deltaNumbers(bytes, prefixes?.next ?? start, count)
  let offset = next
  let before = 0
  let total = 0
  for (let i = 0; i < count; i++) {
    const prefix = prefixes?.numbers[i] ?? 0
    if (prefix < 0 || prefix > before || lengths[i]! < 0) throw new BadBytes('a text of an impossible length')
    before = prefix + lengths[i]!
    offset += lengths[i]!
    total += before
  }
  if (offset > bytes.length) throw new BadBytes('a text that is longer than its page')
  if (total > budget) throw new BadBytes(`texts of ${total} bytes in one page`)
}

/** Everything that may be told of a data page's values before they are decoded. `dictionary`: its entries, -1 for none. */
export function checkValues(bytes: Uint8Array, start: number, count: number, encoding: string, element: Leaf['element'], dictionary: number, budget: number): void {
  switch (encoding) {
    case 'PLAIN':
      return checkPlain(bytes, start, count, element)
    case 'PLAIN_DICTIONARY':
    case 'RLE_DICTIONARY': {
      if (dictionary < 0) throw new BadBytes('a page that refers to a dictionary which is not there')
      const width = bytes[start]
      if (width === undefined) throw new BadBytes('values that end early')
      const numbers = width === 0 ? new Int32Array(Math.min(count, 1)) : hybridNumbers(bytes, start + 1, width, count)
      if (numbers.some((entry) => entry >= dictionary)) throw new BadBytes(`an entry outside the dictionary of ${dictionary}`)
      return
    }
    case 'RLE':
      if (element.type !== 'BOOLEAN') break
      lengthOf(bytes, start)
      hybridNumbers(bytes, start + 4, 1, count)
      return
    case 'BYTE_STREAM_SPLIT':
      if (start + count * (fixedSize(element) ?? Number.NaN) <= bytes.length) return
      throw new BadBytes('values that end early')
    case 'DELTA_BINARY_PACKED':
      if (element.type !== 'INT32' && element.type !== 'INT64') break
      deltaHead(bytes, start)
      return
    case 'DELTA_LENGTH_BYTE_ARRAY':
    case 'DELTA_BYTE_ARRAY':
      if (element.type !== 'BYTE_ARRAY') break
      return checkTexts(bytes, start, count, encoding === 'DELTA_BYTE_ARRAY', budget)
  }
  throw new BadBytes(`values of the type ${String(element.type)} in the encoding ${encoding}`)
}
