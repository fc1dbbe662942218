/**
 * The footer of a Parquet file, checked before anything follows it: hyparquet trusts its input, so what the footer claims
 * (the tree of columns, row counts, offsets, sizes) is held against the file first.
 */
import type { FileHandle } from 'node:fs/promises'
import type { ColumnMetaData, FileMetaData, SchemaElement } from 'hyparquet'
import { parquetMetadata } from 'hyparquet'
import { BadBytes, CompactReader, smallerGroups } from './thrift.js'

const maxNesting = 16
/** "PAR1" at both ends; a file whose footer is encrypted ends in "PARE". */
const magic = 'PAR1'

/** A column that holds values: a leaf of the schema. */
export interface Leaf {
  /** ["messages", "list", "element", "role"] */
  readonly path: readonly string[]
  readonly element: SchemaElement
  /** Levels above 0 that say which of the optional and repeated parents are there, and which list goes on. */
  readonly maxDefinition: number
  readonly maxRepetition: number
}

/** The values of one leaf in one row group. */
export interface Chunk {
  readonly leaf: Leaf
  readonly meta: ColumnMetaData
  readonly start: number
  readonly bytes: number
  readonly values: number
}

export interface RowGroup {
  readonly rows: number
  readonly chunks: readonly Chunk[]
}

export interface Footer {
  readonly metadata: FileMetaData
  /** Top-level columns in order. */
  readonly columns: readonly string[]
  readonly groups: readonly RowGroup[]
}

export async function readBytes(handle: FileHandle, start: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, start + done)
    if (bytesRead === 0) throw new BadBytes('the file became shorter while it was read')
    done += bytesRead
  }
  return bytes
}

/** Errors: BadBytes, and whatever hyparquet throws. */
export async function readFooter(handle: FileHandle): Promise<Footer> {
  const { size } = await handle.stat()
  if (size < 12) throw new BadBytes(`a file of ${size} bytes`)
  const head = await readBytes(handle, 0, 4)
  const tail = await readBytes(handle, size - 8, 8)
  const mark = Buffer.from(tail.subarray(4)).toString('latin1')
  if (mark === 'PARE') throw new BadBytes('an encrypted footer')
  if (Buffer.from(head).toString('latin1') !== magic || mark !== magic) throw new BadBytes(`no ${magic} at both ends: the file is cut off, or no Parquet`)
  const length = new DataView(tail.buffer).getUint32(0, true)
  const footerStart = size - 8 - length
  if (footerStart < 4) throw new BadBytes(`a footer of ${length} bytes in a file of ${size}`)
  const bytes = await readBytes(handle, footerStart, length + 8)
  new CompactReader(bytes.subarray(0, length)).struct(false)
  const metadata = parquetMetadata(bytes, { geoparquet: false })
  const leaves = leavesOf(metadata.schema)
  const groups = rowGroups(metadata, leaves, footerStart, size)
  return { metadata, columns: [...new Set(leaves.map((leaf) => leaf.path[0]!))], groups }
}

/** The schema is a tree in pre-order; every element is visited once, and all are. */
function leavesOf(schema: readonly SchemaElement[]): Leaf[] {
  const leaves: Leaf[] = []
  let next = 0
  const visit = (path: readonly string[], definition: number, repetition: number): void => {
    const element = schema[next++]
    if (element === undefined) throw new BadBytes('a schema that does not end')
    if (path.length > maxNesting) throw new BadBytes(`columns nested deeper than ${maxNesting}`)
    const root = next === 1
    if (!root && typeof element.name !== 'string') throw new BadBytes('a column without a name')
    const own = root ? path : [...path, element.name]
    const maxDefinition = definition + (!root && element.repetition_type !== 'REQUIRED' ? 1 : 0)
    const maxRepetition = repetition + (!root && element.repetition_type === 'REPEATED' ? 1 : 0)
    const children: unknown = element.num_children
    if (element.type !== undefined) {
      if (children !== undefined && children !== 0) throw new BadBytes('a column of values with columns in it')
      leaves.push({ path: own, element, maxDefinition, maxRepetition })
      return
    }
    // newer writers may leave the older of the two names out, which is the one hyparquet goes by
    const logical = element.logical_type?.type
    if (element.converted_type === undefined && (logical === 'LIST' || logical === 'MAP')) element.converted_type = logical
    if (typeof children !== 'number' || children < 1 || children > schema.length) throw new BadBytes(`a group of ${String(children)} columns`)
    const names = new Set<string>()
    for (let child = 0; child < children; child++) {
      const name = schema[next]?.name
      if (name !== undefined && names.has(name)) throw new BadBytes(`two columns of the name ${JSON.stringify(name)}`)
      if (name !== undefined) names.add(name)
      visit(own, maxDefinition, maxRepetition)
    }
  }
  visit([], 0, 0)
  if (next !== schema.length) throw new BadBytes(`${schema.length - next} columns outside the tree of the schema`)
  return leaves
}

/** A count or offset that a footer may hold; `absent` stands for one that is not there. */
function whole(value: unknown, what: string, absent?: number): number {
  if (value === undefined && absent !== undefined) return absent
  const number = typeof value === 'bigint' || typeof value === 'number' ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(number) || number < 0) throw new BadBytes(`${what} of ${String(value)}`)
  return number
}

function rowGroups(metadata: FileMetaData, leaves: readonly Leaf[], footerStart: number, size: number): RowGroup[] {
  // Numbers and levels cost memory although a run of them takes a few bytes in the file.
  const maxValues = Math.max(2 ** 18, size)
  let claimed = 0
  let total = 0
  const groups = metadata.row_groups.map((group): RowGroup => {
    const rows = whole(group.num_rows, 'a row count')
    total += rows
    if (group.columns.length !== leaves.length) throw new BadBytes(`${group.columns.length} columns in a row group, where the schema has ${leaves.length}`)
    const chunks = group.columns.map((column, i): Chunk => {
      const leaf = leaves[i]!
      const name = leaf.path.join('.')
      const meta = column.meta_data
      if (meta === undefined || column.crypto_metadata !== undefined) throw new BadBytes(`the column ${name} encrypted or without its place`)
      if (column.file_path !== undefined) throw new BadBytes(`the column ${name} in another file`)
      if (meta.path_in_schema.join('.') !== name || meta.type !== leaf.element.type) throw new BadBytes(`the column ${meta.path_in_schema.join('.')} where the schema has ${name}`)
      const values = whole(meta.num_values, 'a value count')
      if (values > maxValues) throw new BadBytes(`${values} values in one row group of the column ${name}, in a file of ${size} bytes`, smallerGroups)
      if (leaf.maxRepetition === 0 && values !== rows) throw new BadBytes(`${values} values in the column ${name} for ${rows} rows`)
      // a dictionary stands before the pages with the data; some writers give 0 where there is none
      const start = whole(meta.dictionary_page_offset, 'an offset', 0) || whole(meta.data_page_offset, 'an offset')
      const bytes = whole(meta.total_compressed_size, 'a size')
      if (start < 4 || start + bytes > footerStart) throw new BadBytes(`the column ${name} at bytes ${start} to ${start + bytes} of a file of ${size}`)
      claimed += bytes
      return { leaf, meta, start, bytes, values }
    })
    return { rows, chunks }
  })
  if (claimed > size) throw new BadBytes(`columns of ${claimed} bytes together in a file of ${size}`)
  if (total !== whole(metadata.num_rows, 'a row count')) throw new BadBytes(`${total} rows in its row groups, but ${String(metadata.num_rows)} in the footer`)
  return groups
}
