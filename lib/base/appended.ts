// A file that grows in order, from its start or on from where an earlier run left it.
import type { WriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { failOnFile } from './files.js'

export class AppendedFile {
  #failure: unknown = null

  private constructor(
    readonly file: string,
    private readonly handle: FileHandle,
    private readonly stream: WriteStream,
    /** Bytes, those on their way included. */
    public bytes: number,
  ) {
    // the first piece that could not be written (a full disk): training goes on, close() tells
    stream.on('error', (error) => (this.#failure ??= error))
  }

  /** `keep`: bytes of an earlier run to go on from; what comes after them is cut off. Null: the file begins anew. */
  static async open(file: string, keep: number | null): Promise<AppendedFile> {
    const handle = await open(file, keep === null ? 'w' : 'a').catch((error: unknown) => failOnFile(error, `to write ${file}`))
    const { size } = await handle.stat()
    const bytes = Math.min(size, keep ?? 0)
    if (size > bytes) await handle.truncate(bytes)
    return new AppendedFile(file, handle, handle.createWriteStream(), bytes)
  }

  write(piece: string | Buffer): void {
    this.bytes += Buffer.byteLength(piece)
    this.stream.write(piece)
  }

  /** Settles when everything written so far is on the disk. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve) => this.stream.write('', () => resolve()))
    this.#throw()
    await this.handle.sync()
  }

  async close(): Promise<void> {
    if (!this.stream.closed) await new Promise<void>((resolve) => void this.stream.once('close', resolve).end())
    this.#throw()
  }

  #throw(): void {
    const failure = this.#failure
    this.#failure = null
    if (failure) failOnFile(failure, `to write ${this.file}`)
  }
}
