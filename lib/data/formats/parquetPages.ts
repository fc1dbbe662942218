/**
 * The pages of one column in one row group: decompressed, checked, and written again without compression for hyparquet to
 * decode. Nothing is taken from a page header before it is held against the bytes and the footer.
 */
import type { Chunk } from './parquetFooter.js'
import { decompress } from './parquetCodecs.js'
import { checkPlain, checkValues, hybridNumbers } from './parquetValues.js'
import { BadBytes, CompactReader, compactStruct, smallerGroups } from './thrift.js'
import type { ThriftStruct } from './thrift.js'

const pageType = { data: 0, index: 1, dictionary: 2, dataV2: 3 } as const
const rle = 3
// By number, as hyparquet's own table.
const encodings = ['PLAIN', 'GROUP_VAR_INT', 'PLAIN_DICTIONARY', 'RLE', 'BIT_PACKED', 'DELTA_BINARY_PACKED', 'DELTA_LENGTH_BYTE_ARRAY', 'DELTA_BYTE_ARRAY', 'RLE_DICTIONARY', 'BYTE_STREAM_SPLIT']

const bitsFor = (level: number): number => 32 - Math.clz32(level)

/** Bytes that may still be decompressed, of so many in all. */
export interface Budget {
  left: number
  readonly total: number
}

function spend(budget: Budget, bytes: number): void {
  if (bytes > budget.left) throw new BadBytes(`a row group that unpacks to more than ${budget.total} bytes`, smallerGroups)
  budget.left -= bytes
}

function number(fields: ThriftStruct, id: number, what: string): number {
  const value = fields.get(id)
  if (typeof value !== 'number' || value < 0 || value >= 2 ** 31) throw new BadBytes(`${what} of ${String(value)}`)
  return value
}

function inner(header: ThriftStruct, id: number): ThriftStruct {
  const fields = header.get(id)
  if (!(fields instanceof Map)) throw new BadBytes('a page without its header')
  return fields
}

const encodingOf = (fields: ThriftStruct, id: number): string => encodings[number(fields, id, 'an encoding')] ?? 'unknown'

/** Levels of a page: how many values are there, how many rows begin in it. */
interface Levels {
  readonly values: number
  readonly rows: number
}

/** Walks the pages of a chunk in order. */
class PageWalk {
  readonly pieces: Uint8Array[] = []
  readonly #chunk: Chunk
  readonly #budget: Budget
  #entries = 0
  rows = 0
  #dictionary = -1

  constructor(chunk: Chunk, budget: Budget) {
    this.#chunk = chunk
    this.#budget = budget
  }

  /** Level entries so far: one for each value, absent ones included. */
  get entries(): number {
    return this.#entries
  }

  page(header: ThriftStruct, body: Uint8Array, size: number): void {
    switch (number(header, 1, 'a page type')) {
      case pageType.data:
        return this.#data(inner(header, 5), body, size)
      case pageType.dictionary:
        return this.#dictionaryPage(inner(header, 7), body, size)
      case pageType.dataV2:
        return this.#dataV2(inner(header, 8), body, size)
      case pageType.index:
        return
      default:
        throw new BadBytes(`a page of the unknown type ${String(header.get(1))}`)
    }
  }

  #emit(type: number, id: number, fields: ThriftStruct, page: readonly Uint8Array[]): void {
    const size = page.reduce((sum, part) => sum + part.length, 0)
    const header: ThriftStruct = new Map<number, number | ThriftStruct>([[1, type], [2, size], [3, size], [id, fields]])
    this.pieces.push(Uint8Array.from(compactStruct(header)), ...page)
  }

  #dictionaryPage(fields: ThriftStruct, body: Uint8Array, size: number): void {
    const count = number(fields, 1, 'a dictionary')
    if (this.#dictionary >= 0) throw new BadBytes('two dictionaries in one column')
    if (count > this.#chunk.values) throw new BadBytes(`a dictionary of ${count} for ${this.#chunk.values} values`)
    const page = decompress(body, this.#chunk.meta.codec, size)
    checkPlain(page, 0, count, this.#chunk.leaf.element)
    this.#dictionary = count
    this.#emit(pageType.dictionary, 7, new Map([[1, count], [2, 0]]), [page])
  }

  #count(fields: ThriftStruct): number {
    const count = number(fields, 1, 'a value count')
    if (count > this.#chunk.values - this.#entries) throw new BadBytes(`${this.#entries + count} values in a column of ${this.#chunk.values}`)
    return count
  }

  #data(fields: ThriftStruct, body: Uint8Array, size: number): void {
    const { leaf, meta } = this.#chunk
    const count = this.#count(fields)
    const page = decompress(body, meta.codec, size)
    let offset = 0
    const read = (max: number, encodingId: number): Int32Array | null => {
      if (max === 0) return null
      if (number(fields, encodingId, 'an encoding') !== rle) throw new BadBytes('levels in the old bit-packed encoding')
      if (offset + 4 > page.length) throw new BadBytes('levels that end early')
      const bytes = new DataView(page.buffer, page.byteOffset).getUint32(offset, true)
      offset += 4
      if (bytes > page.length - offset) throw new BadBytes('levels that end early')
      const levels = hybridNumbers(page.subarray(0, offset + bytes), offset, bitsFor(max), count)
      offset += bytes
      return levels
    }
    const repetition = read(leaf.maxRepetition, 4)
    const definition = read(leaf.maxDefinition, 3)
    const { values } = this.#levels(repetition, definition, count)
    this.#checkValues(page, offset, values, encodingOf(fields, 2))
    this.#emit(pageType.data, 5, new Map([1, 2, 3, 4].map((id) => [id, fields.get(id)!])), [page])
  }

  #dataV2(fields: ThriftStruct, body: Uint8Array, size: number): void {
    const { leaf, meta } = this.#chunk
    const count = this.#count(fields)
    const definitionBytes = number(fields, 5, 'a size')
    const repetitionBytes = number(fields, 6, 'a size')
    const levelBytes = definitionBytes + repetitionBytes
    if (levelBytes > body.length || levelBytes > size) throw new BadBytes('levels that end early')
    const repetition = leaf.maxRepetition === 0 ? null : hybridNumbers(body.subarray(0, repetitionBytes), 0, bitsFor(leaf.maxRepetition), count)
    const definition = leaf.maxDefinition === 0 ? null : hybridNumbers(body.subarray(0, levelBytes), repetitionBytes, bitsFor(leaf.maxDefinition), count)
    const { values, rows } = this.#levels(repetition, definition, count)
    if (number(fields, 2, 'a count') !== count - values || number(fields, 3, 'a row count') !== rows) throw new BadBytes('a page whose header counts its rows or values wrongly')
    const rest = body.subarray(levelBytes)
    const page = fields.get(7) === false ? rest : decompress(rest, meta.codec, size - levelBytes)
    if (page.length !== size - levelBytes) throw new BadBytes(`a page of ${page.length} bytes instead of ${size - levelBytes}`)
    this.#checkValues(page, 0, values, encodingOf(fields, 4))
    const kept = new Map([1, 2, 3, 4, 5, 6].map((id) => [id, fields.get(id)!]))
    this.#emit(pageType.dataV2, 8, kept.set(7, false), [body.subarray(0, levelBytes), page])
  }

  #checkValues(page: Uint8Array, start: number, values: number, encoding: string): void {
    if (values > 0) checkValues(page, start, values, encoding, this.#chunk.leaf.element, this.#dictionary, this.#budget.left)
  }

  #levels(repetition: Int32Array | null, definition: Int32Array | null, count: number): Levels {
    const { maxDefinition, maxRepetition } = this.#chunk.leaf
    const tally = (levels: Int32Array | null, max: number, of: number): number => {
      if (levels === null) return count
      let found = 0
      for (const level of levels) {
        if (level > max) throw new BadBytes(`the level ${level} of at most ${max}`)
        if (level === of) found++
      }
      return found
    }
    if (this.#entries === 0 && count > 0 && repetition !== null && repetition[0] !== 0) throw new BadBytes('a column that begins within a row')
    const levels = { values: tally(definition, maxDefinition, maxDefinition), rows: tally(repetition, maxRepetition, 0) }
    this.#entries += count
    this.rows += levels.rows
    return levels
  }
}

/** The chunk's pages, checked and without compression, as one buffer. Errors: BadBytes, and those of the decompressors. */
export function cleanChunk(bytes: Uint8Array, chunk: Chunk, rows: number, budget: Budget): Uint8Array<ArrayBuffer> {
  const walk = new PageWalk(chunk, budget)
  for (let offset = 0; walk.entries < chunk.values; ) {
    const reader = new CompactReader(bytes, offset)
    const header = reader.struct()
    const size = number(header, 2, 'a page size')
    const stored = number(header, 3, 'a page size')
    if (stored > bytes.length - reader.offset) throw new BadBytes(`a page of ${stored} bytes where ${bytes.length - reader.offset} are left`)
    spend(budget, size)
    walk.page(header, bytes.subarray(reader.offset, reader.offset + stored), size)
    offset = reader.offset + stored
  }
  if (walk.rows !== rows) throw new BadBytes(`${walk.rows} rows in the column ${chunk.leaf.path.join('.')} instead of ${rows}`)
  const clean = new Uint8Array(walk.pieces.reduce((sum, piece) => sum + piece.length, 0))
  let offset = 0
  for (const piece of walk.pieces) {
    clean.set(piece, offset)
    offset += piece.length
  }
  return clean
}
