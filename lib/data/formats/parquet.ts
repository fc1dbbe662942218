/** Parquet, one row group after the other, and of each only the columns that are asked for. */
import { isUtf8 } from 'node:buffer'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { parquetReadObjects } from 'hyparquet'
import { ThreefoldError, fail } from '../../base/errors.js'
import { errorCode, failOnFile } from '../../base/files.js'
import type { Format, ParsedRow } from './parsed.js'
import type { Chunk, Footer, RowGroup } from './parquetFooter.js'
import { readBytes, readFooter } from './parquetFooter.js'
import { cleanChunk } from './parquetPages.js'
import { BadBytes } from './thrift.js'

/** So far apart lie the columns in the buffer that hyparquet reads from, that it never fetches two as one. */
const columnSpace = 2 ** 40
/** Pages may decompress to this and ten times the file, so that a small file cannot claim the whole memory. */
const floorBytes = 48 * 2 ** 20
const unreadTypes = new Set(['VARIANT', 'GEOMETRY', 'GEOGRAPHY', 'BSON'])

/** Opens the file, reads its footer, and puts whatever goes wrong into an error that names the file. */
async function* withFooter<T>(file: string, body: (handle: FileHandle, footer: Footer) => AsyncGenerator<T>): AsyncGenerator<T> {
  let handle: FileHandle
  try {
    handle = await open(file)
  } catch (error) {
    failOnFile(error, `to read ${file}`)
  }
  try {
    yield* body(handle, await readFooter(handle))
  } catch (error) {
    if (error instanceof ThreefoldError) throw error
    if (/^E[A-Z0-9]+$/.test(errorCode(error) ?? '')) failOnFile(error, `to read ${file}`)
    fail('data', `a whole Parquet file that can be read at ${file}`, error instanceof Error ? error.message : String(error), (error instanceof BadBytes ? error : new BadBytes('')).cure)
  } finally {
    await handle.close()
  }
}

function textOf(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw new BadBytes('text that is not UTF-8')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

/** A value as JSON would have it: whole numbers of 64 bits as numbers where they are exact, times as text, nothing as null. */
function plain(value: unknown): unknown {
  if (value === undefined || value === null) return null
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object' && !ArrayBuffer.isView(value)) return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
  return value
}

async function readGroup(handle: FileHandle, metadata: FileMetaData, group: RowGroup, columns: readonly string[]): Promise<Record<string, unknown>[]> {
  const chosen = group.chunks.filter(({ leaf }) => columns.includes(leaf.path[0]!))
  const unread = chosen.find(({ leaf: { element } }) => unreadTypes.has(element.logical_type?.type ?? element.converted_type ?? ''))
  if (unread !== undefined) throw new BadBytes(`the column ${unread.leaf.path.join('.')} of a type that is not read`)
  const total = floorBytes + 10 * (await handle.stat()).size
  const budget = { left: total, total }
  const parts: Uint8Array<ArrayBuffer>[] = []
  for (const chunk of chosen) parts.push(cleanChunk(await readBytes(handle, chunk.start, chunk.bytes), chunk, group.rows, budget))
  const file: AsyncBuffer = {
    byteLength: columnSpace * parts.length,
    slice: (start, end = start) => {
      const column = Math.floor(start / columnSpace)
      return parts[column]!.buffer.slice(start - column * columnSpace, end - column * columnSpace)
    },
  }
  const cleaned = (chunk: Chunk, i: number): FileMetaData['row_groups'][number]['columns'][number] => {
    const { type, encodings, path_in_schema, num_values } = chunk.meta
    const size = BigInt(parts[i]!.length)
    const meta_data = { type, encodings, path_in_schema, num_values, codec: 'UNCOMPRESSED' as const, total_uncompressed_size: size, total_compressed_size: size, data_page_offset: BigInt(i * columnSpace) }
    return { file_offset: 0n, meta_data }
  }
  const size = BigInt(parts.reduce((sum, part) => sum + part.length, 0))
  const rowGroup = { columns: chosen.map(cleaned), total_byte_size: size, num_rows: BigInt(group.rows) }
  return parquetReadObjects({
    file,
    metadata: { ...metadata, num_rows: BigInt(group.rows), row_groups: [rowGroup] },
    columns: [...columns],
    parsers: { stringFromBytes: textOf },
  })
}

async function* parquetRows(file: string, wanted: readonly string[] | null): AsyncGenerator<ParsedRow> {
  yield* withFooter(file, async function* (handle, { metadata, columns, groups }) {
    const asked = columns.filter((name) => wanted === null || wanted.includes(name))
    // where nothing fits, the rows are given whole: what is said about them then names their fields
    const names = asked.length > 0 ? asked : columns
    let row = 0
    for (const group of groups) {
      if (group.rows === 0) continue
      for (const value of await readGroup(handle, metadata, group, names)) yield { value: plain(value), at: { file, line: ++row, unit: 'row' } }
    }
  })
}

async function parquetColumns(file: string): Promise<string[]> {
  for await (const names of withFooter(file, async function* (_, { columns }) { yield [...columns] })) return names
  return []
}

export const parquetFormat: Format = { kind: 'Parquet', endings: ['.parquet'], columns: parquetColumns, rows: parquetRows }
