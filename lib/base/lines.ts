/** Streams the lines of a text file, plain or gzip, without ever holding the whole file. */
import { isUtf8 } from 'node:buffer'
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { fail } from './errors.js'
import { errorCode, failOnFile } from './files.js'

const chunkBytes = 1 << 20
/** A longer line cannot become one JavaScript string with certainty (the limit of V8 is 2^29 - 24 characters). */
export const maxLineBytes = 2 ** 29 - 64
const newline = 0x0a
const carriageReturn = 0x0d

export interface TextLine {
  /** 1-based, blank lines counted. */
  readonly line: number
  /** Without its line end. */
  readonly text: string
}

/** The bytes of a file; a name ending in .gz is unzipped. Errors come from the stream: see failOnGzip. */
export function openBytes(file: string): Readable {
  const raw = createReadStream(file, { highWaterMark: chunkBytes })
  if (!file.endsWith('.gz')) return raw
  const unzipped = createGunzip({ chunkSize: chunkBytes })
  // The consumer meets any error of either stream through the last one.
  return pipeline(raw, unzipped, () => undefined)
}

/** An error of unzipping, in the project's shape; any other goes through. */
export function failOnGzip(error: unknown, file: string): void {
  if (errorCode(error)?.startsWith('Z_') === true) {
    fail('data', `a whole gzip file in ${file}`, (error as Error).message, 'to copy or download it again')
  }
}

function decodeLine(bytes: Buffer, file: string, line: number): string {
  if (!isUtf8(bytes)) {
    fail('data', `UTF-8 text in ${file} line ${line}`, 'bytes that are not UTF-8', 'to save the file as UTF-8')
  }
  const end = bytes.at(-1) === carriageReturn ? bytes.length - 1 : bytes.length
  const text = bytes.toString('utf8', 0, end)
  return line === 1 && text.startsWith('\ufeff') ? text.slice(1) : text
}

/**
 * The lines of a file in order, blank ones left out (but counted). A name ending in .gz is unzipped; CRLF and a byte
 * order mark are removed. Errors name the file: missing, torn gzip, a line that is not UTF-8 or too long.
 */
export async function* readLines(file: string): AsyncGenerator<TextLine> {
  let line = 0
  let pending: Buffer[] = []
  let pendingBytes = 0
  const finish = (tail: Buffer): TextLine | null => {
    line++
    const bytes = pending.length === 0 ? tail : Buffer.concat([...pending, tail])
    pending = []
    pendingBytes = 0
    const text = decodeLine(bytes, file, line)
    return text.trim() === '' ? null : { line, text }
  }
  try {
    for await (const chunk of openBytes(file) as AsyncIterable<Buffer>) {
      let start = 0
      for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
        const found = finish(chunk.subarray(start, end))
        start = end + 1
        if (found !== null) yield found
      }
      pending.push(chunk.subarray(start))
      pendingBytes += chunk.length - start
      if (pendingBytes > maxLineBytes) {
        fail('data', `lines under ${maxLineBytes} bytes in ${file}`, `more in line ${line + 1}`, 'one JSON row on each line')
      }
    }
  } catch (error) {
    failOnGzip(error, file)
    failOnFile(error, `to read ${file}`)
  }
  if (pendingBytes > 0) {
    const last = finish(Buffer.alloc(0))
    if (last !== null) yield last
  }
}
