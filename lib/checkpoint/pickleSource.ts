/** The bytes of one or more pickles in a row, read with bounds. */
import { isUtf8 } from 'node:buffer'
import type { Refuse } from './tensorFiles.js'

/** The bytes at hand end inside the pickle, but the file goes on. */
export class NeedsMoreBytes extends Error {}

const maxLineBytes = 4096

export class PickleSource {
  offset = 0
  readonly refuse: Refuse

  /** `isWhole`: nothing follows `bytes`, so that a pickle that goes on behind them is torn. */
  constructor(
    private readonly bytes: Buffer,
    private readonly isWhole: boolean,
    refuse: Refuse,
  ) {
    this.refuse = refuse
  }

  /** Holds that so many bytes are left. */
  expect(count: number): void {
    const left = this.bytes.length - this.offset
    if (count <= left) return
    if (!this.isWhole) throw new NeedsMoreBytes()
    this.refuse(`${count} more bytes of the pickle at byte ${this.offset}`, `${left}`)
  }

  byte(): number {
    this.expect(1)
    return this.bytes[this.offset++]!
  }

  /** A view onto the next bytes. */
  take(count: number): Buffer {
    this.expect(count)
    this.offset += count
    return this.bytes.subarray(this.offset - count, this.offset)
  }

  /** A little-endian length of 4 or 8 bytes that the bytes left can hold, or a small count. */
  length(width: 4 | 8): number {
    if (width === 4) return this.take(4).readUInt32LE()
    const length = this.take(8).readBigUInt64LE()
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) this.refuse('a length within the pickle', `${length}`)
    return Number(length)
  }

  text(bytes: number): string {
    const found = this.take(bytes)
    if (!isUtf8(found)) this.refuse('strings in UTF-8', `other bytes at ${this.offset - bytes}`)
    return found.toString('utf8')
  }

  /** Up to the next line end, which is taken too. */
  line(): string {
    const end = this.bytes.indexOf(10, this.offset)
    const bytes = (end < 0 ? this.bytes.length : end) - this.offset
    if (bytes > maxLineBytes) this.refuse(`a line of at most ${maxLineBytes} bytes at byte ${this.offset}`, `${bytes}`)
    if (end < 0) this.expect(bytes + 1)
    const text = this.text(bytes)
    this.offset++
    return text
  }
}
