/** One JSON value on each line, plain or gzip. */
import { parseJson } from '../../base/files.js'
import { isJsonObject } from '../../base/json.js'
import { readLines } from '../../base/lines.js'
import type { Format, ParsedRow } from './parsed.js'

export async function* jsonLines(file: string): AsyncGenerator<ParsedRow> {
  for await (const { line, text } of readLines(file)) {
    yield { value: parseJson(text, file, line), at: { file, line, unit: 'line' } }
  }
}

/** The fields of the first row; none where it is no object. */
export async function firstFields(rows: AsyncGenerator<ParsedRow>): Promise<string[]> {
  for await (const { value } of rows) return isJsonObject(value) ? Object.keys(value) : []
  return []
}

export const jsonlFormat: Format = {
  kind: 'JSON',
  endings: ['.jsonl', '.jsonl.gz'],
  columns: (file) => firstFields(jsonLines(file)),
  rows: jsonLines,
}
