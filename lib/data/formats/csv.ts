/**
 * CSV as RFC 4180 has it: a header row, commas, double quotes around values that hold commas, quotes or line ends. Every
 * value is text; an empty one without quotes counts as absent.
 */
import { isUtf8 } from 'node:buffer'
import { pipeline } from 'node:stream'
import { CsvError, parse } from 'csv-parse'
import { fail } from '../../base/errors.js'
import { failOnFile } from '../../base/files.js'
import { failOnGzip, maxLineBytes, openBytes } from '../../base/lines.js'
import type { Format, ParsedRow } from './parsed.js'

type Cell = string | null

/** The header or a row, and the line it begins on. */
interface CsvRow {
  readonly cells: readonly Cell[]
  readonly line: number
}

/** Hands the bytes on, and fails at the first line that is not UTF-8 (the parser would put a replacement character). */
async function* checkedText(file: string, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let line = 1
  let rest = Buffer.alloc(0)
  for await (const chunk of chunks) {
    try {
      decoder.decode(chunk, { stream: true })
    } catch {
      const lines = splitLines(Buffer.concat([rest, chunk]))
      const wrong = lines.findIndex((bytes) => !isUtf8(bytes))
      failOnEncoding(file, line + Math.max(wrong, 0))
    }
    const lines = splitLines(chunk)
    line += lines.length - 1
    rest = Buffer.from(lines.length > 1 ? lines.at(-1)! : Buffer.concat([rest, chunk]))
    yield chunk
  }
  try {
    decoder.decode()
  } catch {
    failOnEncoding(file, line)
  }
}

function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = []
  let start = 0
  for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
    lines.push(bytes.subarray(start, end))
    start = end + 1
  }
  lines.push(bytes.subarray(start))
  return lines
}

function failOnEncoding(file: string, line: number): never {
  fail('data', `UTF-8 text in ${file} line ${line}`, 'bytes that are not UTF-8', 'to save the file as UTF-8')
}

/** `line`: where the wrong row begins. */
function failOnCsv(error: CsvError, file: string, line: number): never {
  const at = `${file} line ${line}`
  switch (error.code) {
    case 'CSV_QUOTE_NOT_CLOSED':
      return fail('data', `a closing quote for a value of the row that begins in ${at}`, 'the end of the file', 'to close the quote, or to write quotes inside a value twice')
    case 'CSV_MAX_RECORD_SIZE':
      return fail('data', `rows under ${maxLineBytes} bytes in ${file}`, `more in the row that begins in line ${line}`, 'to look for a quote that is missing there')
    default:
      return fail('data', `quotes around whole values only in the row that begins in ${at}`, error.code === 'CSV_INVALID_CLOSING_QUOTE' ? 'text behind a closing quote' : 'a quote inside a value', 'quotes around the value, and quotes inside it written twice')
  }
}

const countOf = (pattern: RegExp, cells: readonly Cell[]): number => cells.reduce((count, cell) => count + (cell?.match(pattern)?.length ?? 0), 0)

/** Header and rows as lists of cells, each with the line it begins on. */
async function* records(file: string): AsyncGenerator<CsvRow> {
  /** Where the next row begins, blank lines aside. */
  let next = 1
  /** The parser counts CRLF inside quotes as two lines. */
  let twice = 0
  const parser = parse({
    bom: true,
    skip_empty_lines: true,
    relax_column_count: true,
    record_delimiter: ['\r\n', '\n'],
    max_record_size: maxLineBytes,
    cast: (value, context): Cell => (value === '' && !context.quoting ? null : value),
    // called as the rows are parsed, where an error overtakes rows that nobody has read yet
    on_record: (cells: Cell[], { lines }): never => {
      twice += countOf(/\r\n/g, cells)
      next = lines - twice + 1
      const record: CsvRow = { cells, line: next - 1 - countOf(/\n/g, cells) }
      return record as never // the library's types leave no other kind of row
    },
  })
  const bytes = openBytes(file)
  // The consumer meets an error of any of the three through the last one.
  pipeline(bytes, (chunks: AsyncIterable<Buffer>) => checkedText(file, chunks), parser, () => undefined)
  try {
    yield* parser as AsyncIterable<CsvRow>
  } catch (error) {
    if (error instanceof CsvError) failOnCsv(error, file, next)
    failOnGzip(error, file)
    failOnFile(error, `to read ${file}`)
  }
}

function headerOf(cells: readonly Cell[], file: string): string[] {
  const names = cells.map((cell) => cell ?? '')
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) fail('data', `a header with a name of its own for each column in ${file} line 1`, `${JSON.stringify(twice)} twice`, 'a header row such as prompt,chosen,rejected')
  return names
}

async function* csvRows(file: string): AsyncGenerator<ParsedRow> {
  let names: string[] | null = null
  for await (const { cells, line } of records(file)) {
    // Object.fromEntries makes own fields of any name, "__proto__" too
    if (names === null) {
      names = headerOf(cells, file)
      continue
    }
    if (cells.length !== names.length) fail('data', `${names.length} values, as in the header, in ${file} line ${line}`, String(cells.length), 'double quotes around a value that holds a comma')
    yield { value: Object.fromEntries(names.map((name, i) => [name, cells[i]])), at: { file, line, unit: 'line' } }
  }
}

async function csvColumns(file: string): Promise<string[]> {
  for await (const { cells } of records(file)) return headerOf(cells, file)
  return []
}

export const csvFormat: Format = { kind: 'CSV', endings: ['.csv', '.csv.gz'], columns: csvColumns, rows: csvRows }
