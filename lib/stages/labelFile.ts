// The file of labels: added to line by line, each on the disk before the next answer is shown.
import { open, readFile, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

import { failOnFile, makeFolder, parseJson, pathExists } from '../base/files.js'
import type { LabelRow } from './labelRows.js'
import { knownLabel } from './labelRows.js'

export class LabelFile {
  /** Where each line of this session begins. */
  readonly #starts: number[] = []

  private constructor(
    readonly path: string,
    /** Keys of the items that the labeler has labelled. */
    readonly done: Set<string>,
    /** A line that a crash cut in two was taken away. */
    readonly torn: boolean,
    private readonly handle: FileHandle,
    private size: number,
  ) {}

  /** Opens or makes it. Errors: a file of something else, naming the line. */
  static async open(path: string, labeler: string): Promise<LabelFile> {
    await makeFolder(dirname(path)).catch((error: unknown) => failOnFile(error, `to make the folder of ${path}`))
    const bytes = (await pathExists(path)) ? await readFile(path).catch((error: unknown) => failOnFile(error, `to read ${path}`)) : Buffer.alloc(0)
    const { whole, missingEnd } = wholeLines(bytes)
    const done = new Set<string>()
    const lines = whole === 0 ? [] : bytes.toString('utf8', 0, whole).replace(/\n$/, '').split('\n')
    for (const [i, text] of lines.entries()) {
      if (text.trim() === '') continue
      const label = knownLabel({ value: parseJson(text, path, i + 1), at: { file: path, line: i + 1, unit: 'line' } })
      if (label.labeler === labeler) done.add(label.key)
    }
    const handle = await open(path, 'a').catch((error: unknown) => failOnFile(error, `to write ${path}`))
    try {
      if (whole < bytes.length) await handle.truncate(whole)
      if (missingEnd) await handle.write('\n')
      await handle.sync()
      return new LabelFile(path, done, whole < bytes.length, handle, (await stat(path)).size)
    } catch (error) {
      await handle.close()
      return failOnFile(error, `to write ${path}`)
    }
  }

  /** Adds a line; when it settles the line is on the disk. */
  async add(row: LabelRow): Promise<void> {
    const line = Buffer.from(JSON.stringify(row) + '\n')
    try {
      // a short write (a full disk) is gone on with, so that it ends in an error and not in a torn line
      for (let at = 0; at < line.length; ) at += (await this.handle.write(line, at)).bytesWritten
      await this.handle.sync()
    } catch (error) {
      await this.handle.truncate(this.size).catch(() => undefined)
      failOnFile(error, `to write ${this.path}`)
    }
    this.#starts.push(this.size)
    this.size += line.length
  }

  /** Takes the last line of this session back; false where there is none. */
  async takeBack(): Promise<boolean> {
    const start = this.#starts.pop()
    if (start === undefined) return false
    await this.handle.truncate(start).catch((error: unknown) => failOnFile(error, `to write ${this.path}`))
    await this.handle.sync()
    this.size = start
    return true
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

/** Bytes of the lines that are whole. A last line without its end is whole if it is JSON: only the end is missing then. */
function wholeLines(bytes: Buffer): { whole: number; missingEnd: boolean } {
  const end = bytes.lastIndexOf(0x0a) + 1
  if (end === bytes.length) return { whole: end, missingEnd: false }
  try {
    JSON.parse(bytes.toString('utf8', end))
    return { whole: bytes.length, missingEnd: true }
  } catch {
    return { whole: end, missingEnd: false }
  }
}
