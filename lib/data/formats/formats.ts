/** The kinds of data files, by the endings of their names. */
import path from 'node:path'
import { fail } from '../../base/errors.js'
import { holdsNoRows } from '../../hub/select.js'
import { csvFormat } from './csv.js'
import { jsonFormat } from './json.js'
import { jsonlFormat } from './jsonl.js'
import { parquetFormat } from './parquet.js'
import type { Format } from './parsed.js'

const formats: readonly Format[] = [jsonlFormat, jsonFormat, csvFormat, parquetFormat]

export const dataEndings: readonly string[] = formats.flatMap((format) => format.endings)

/** The format of a file by its name, or null where it is no data file. */
export function formatOf(file: string): Format | null {
  const name = path.basename(file)
  if (holdsNoRows(name)) return null
  return formats.find((format) => format.endings.some((ending) => name.endsWith(ending))) ?? null
}

/** The same, for a file that is to be read. */
export function needFormat(file: string): Format {
  const format = formatOf(file)
  if (format !== null) return format
  fail('data', `a file name ending in ${dataEndings.join(', ')}`, file, 'to rename or convert the file')
}
