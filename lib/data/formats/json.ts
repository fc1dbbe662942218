/**
 * A .json file: one array of rows, or one row on each line. An array is read element by element, so a file larger than
 * the memory works.
 */
import { isUtf8 } from 'node:buffer'
import { fail } from '../../base/errors.js'
import { failOnFile } from '../../base/files.js'
import { excerpt, findJsonError } from '../../base/json.js'
import { failOnGzip, maxLineBytes, openBytes } from '../../base/lines.js'
import { firstFields, jsonLines } from './jsonl.js'
import type { Format, ParsedRow } from './parsed.js'

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const newline = 0x0a
const opens = (byte: number): boolean => byte === 0x5b || byte === 0x7b
const closes = (byte: number): boolean => byte === 0x5d || byte === 0x7d
const isBlank = (byte: number): boolean => byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09

/** The bytes of a file, its byte order mark left out. Errors name the file. */
async function* chunksOf(file: string): AsyncGenerator<Buffer> {
  let first = true
  try {
    for await (const chunk of openBytes(file) as AsyncIterable<Buffer>) {
      const marked = first && chunk.length >= 3 && chunk.readUIntBE(0, 3) === 0xefbbbf
      first = false
      yield marked ? chunk.subarray(3) : chunk
    }
  } catch (error) {
    failOnGzip(error, file)
    failOnFile(error, `to read ${file}`)
  }
}

/** True when the first character of the file opens an array. */
async function holdsArray(file: string): Promise<boolean> {
  for await (const chunk of chunksOf(file)) {
    const found = chunk.find((byte) => !isBlank(byte))
    if (found !== undefined) return found === 0x5b
  }
  return false
}

/** One element of the array as text, and where it begins. */
interface Element {
  readonly text: string
  readonly line: number
  readonly column: number
}

/**
 * Cuts the array at its commas: a comma or bracket ends an element where neither a string nor an inner bracket is open.
 * Whether the element itself is JSON is for the parser to say, so kinds of brackets are not told apart here.
 */
class Elements {
  readonly #file: string
  #line = 1
  /** Bytes before the current line, for the column of an element. */
  #lineStart = 0
  #offset = 0
  #began = false
  #ended = false
  #depth = 0
  #inString = false
  #escaped = false
  #pending: Buffer[] = []
  #pendingBytes = 0
  #start: { line: number; column: number } | null = null
  #afterComma = false

  constructor(file: string) {
    this.#file = file
  }

  /** The elements that end within the chunk. */
  *take(chunk: Buffer): Generator<Element> {
    let from = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!
      if (byte === newline) {
        this.#line++
        this.#lineStart = this.#offset + i + 1
      }
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (byte === backslash) this.#escaped = true
        else if (byte === quote) this.#inString = false
        continue
      }
      if (isBlank(byte)) continue
      if (!this.#began) {
        this.#began = true // holdsArray has seen the bracket
        continue
      }
      if (this.#ended) this.#refuse('nothing after the closing bracket', excerpt(chunk.toString('utf8', i, i + 60), 0), i)
      if (this.#depth === 0 && (byte === comma || closes(byte))) {
        if (this.#start !== null) yield this.#finish(chunk.subarray(from, i))
        else if (byte === comma || this.#afterComma) this.#refuse('a row', JSON.stringify(String.fromCharCode(byte)), i)
        this.#afterComma = byte === comma
        if (byte !== comma) this.#ended = true
        continue
      }
      if (this.#start === null) {
        this.#start = { line: this.#line, column: this.#columnAt(i) }
        from = i
      }
      if (byte === quote) this.#inString = true
      else if (opens(byte)) this.#depth++
      else if (closes(byte)) this.#depth--
    }
    this.#offset += chunk.length
    if (this.#start === null) return
    this.#pending.push(chunk.subarray(from))
    this.#pendingBytes += chunk.length - from
    if (this.#pendingBytes > maxLineBytes)
      fail('data', `rows under ${maxLineBytes} bytes in ${this.#file}`, `more in the row that begins in line ${this.#start.line}`, 'to look for a quote or bracket that is missing there')
  }

  end(): void {
    if (this.#ended) return
    const { line, column } = this.#start ?? { line: this.#line, column: this.#columnAt(0) }
    const what = this.#start === null ? '"]" at the end of' : `the end of the row that begins at line ${line} column ${column} of`
    fail('data', `${what} ${this.#file}`, 'the end of the file', 'to copy or download it again: it is cut off')
  }

  #columnAt(i: number): number {
    return this.#offset + i - this.#lineStart + 1
  }

  #finish(tail: Buffer): Element {
    const bytes = this.#pending.length === 0 ? tail : Buffer.concat([...this.#pending, tail])
    const start = this.#start!
    this.#pending = []
    this.#pendingBytes = 0
    this.#start = null
    if (!isUtf8(bytes)) fail('data', `UTF-8 text in ${this.#file} line ${start.line}`, 'bytes that are not UTF-8', 'to save the file as UTF-8')
    return { text: bytes.toString('utf8'), ...start }
  }

  #refuse(expected: string, received: string, i: number): never {
    fail('files', `${expected} in ${this.#file} line ${this.#line} column ${this.#columnAt(i)}`, received, 'to correct the JSON there, or write the file again')
  }
}

function parseElement({ text, line, column }: Element, file: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const place = findJsonError(text)
    if (place === null) throw error
    const at = `line ${line + place.line - 1} column ${place.line === 1 ? column + place.column - 1 : place.column}`
    const expected = place.expected === 'nothing after the value' ? '"," or "]" after the row' : place.expected
    fail('files', `${expected} in ${file} ${at}`, excerpt(text, place.offset), 'to correct the JSON there, or write the file again')
  }
}

async function* arrayRows(file: string): AsyncGenerator<ParsedRow> {
  const elements = new Elements(file)
  let row = 0
  for await (const chunk of chunksOf(file)) {
    for (const element of elements.take(chunk)) {
      yield { value: parseElement(element, file), at: { file, line: ++row, unit: 'row' } }
    }
  }
  elements.end()
}

async function* jsonRows(file: string): AsyncGenerator<ParsedRow> {
  yield* (await holdsArray(file)) ? arrayRows(file) : jsonLines(file)
}

export const jsonFormat: Format = {
  kind: 'JSON',
  endings: ['.json', '.json.gz'],
  columns: (file) => firstFields(jsonRows(file)),
  rows: jsonRows,
}
