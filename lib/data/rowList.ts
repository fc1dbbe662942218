/** Rows of tokens that need not be in memory: from arrays, or from the files of a token store. */
import { closeSync, openSync, readSync } from 'node:fs'
import { fail } from '../base/errors.js'
import type { PairRow, PromptRow, TokenRow } from './records.js'

/** A list of n rows. */
export interface RowList<Row> {
  readonly length: number
  at(index: number): Row
  /** Ids of one row, those of both answers for a pair. */
  tokens(index: number): number
  /** Lets go of open files. */
  dispose(): void
}

/** How a row becomes one or two sequences with a number beside them, and back. */
export interface RowCodec<Row> {
  parts(row: Row): readonly TokenRow[]
  /** Kept beside the parts: a pair's promptLength; 0 elsewhere. */
  note(row: Row): number
  row(parts: readonly TokenRow[], note: number): Row
}

export const tokenRowCodec: RowCodec<TokenRow> = { parts: (row) => [row], note: () => 0, row: ([row]) => row! }

export const pairRowCodec: RowCodec<PairRow> = {
  parts: ({ chosen, rejected }) => [chosen, rejected],
  note: ({ promptLength }) => promptLength,
  row: ([chosen, rejected], promptLength) => ({ chosen: chosen!, rejected: rejected!, promptLength }),
}

export const promptRowCodec: RowCodec<PromptRow> = {
  parts: ({ ids }) => [{ ids, counted: new Uint8Array(ids.length) }],
  note: () => 0,
  row: ([row]) => ({ ids: row!.ids }),
}

/** Numbers of one row in a store: lengths of its parts (the second 0 where there is one), its note, how often it is seen. */
export const rowNumbers = 4

/** Where the ids and marks of a store are. */
export interface TokenSource {
  /** Fills `into` from element `start` on. */
  ids(start: number, into: Int32Array): void
  counted(start: number, into: Uint8Array): void
  dispose(): void
}

/** Everything in two arrays. */
export function memorySource(ids: Int32Array, counted: Uint8Array): TokenSource {
  return {
    ids: (start, into) => into.set(ids.subarray(start, start + into.length)),
    counted: (start, into) => into.set(counted.subarray(start, start + into.length)),
    dispose: () => undefined,
  }
}

/** Two files, read as rows are asked for: the system's own cache keeps what is used often. */
export function fileSource(idsFile: string, countedFile: string): TokenSource {
  const ids = openSync(idsFile, 'r')
  const counted = openSync(countedFile, 'r')
  const read = (file: string, descriptor: number, at: number, into: Int32Array | Uint8Array): void => {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength)
    for (let done = 0; done < bytes.length; ) {
      const got = readSync(descriptor, bytes, done, bytes.length - done, at + done)
      if (got === 0) fail('token store', `${bytes.length} bytes at ${at} of ${file}`, `only ${done}`, 'removing the folder it is in: it will be made again')
      done += got
    }
  }
  return {
    ids: (start, into) => read(idsFile, ids, 4 * start, into),
    counted: (start, into) => read(countedFile, counted, start, into),
    dispose: () => {
      closeSync(ids)
      closeSync(counted)
    },
  }
}

/** The rows of a store, in an order that may leave some out and name others twice. */
export class StoredRows<Row> implements RowList<Row> {
  /** First id of each stored row. */
  readonly #starts: Float64Array

  /** `numbers` [rows, 4]; `order` names stored rows. */
  constructor(
    private readonly source: TokenSource,
    private readonly numbers: Uint32Array,
    private readonly order: Int32Array,
    private readonly codec: RowCodec<Row>,
  ) {
    this.#starts = new Float64Array(numbers.length / rowNumbers)
    for (let i = 1; i < this.#starts.length; i++) this.#starts[i] = this.#starts[i - 1]! + this.#length(i - 1)
  }

  #length(stored: number): number {
    return this.numbers[stored * rowNumbers]! + this.numbers[stored * rowNumbers + 1]!
  }

  get length(): number {
    return this.order.length
  }

  tokens(index: number): number {
    return this.#length(this.#stored(index))
  }

  at(index: number): Row {
    const stored = this.#stored(index)
    const [first, second, note] = this.numbers.subarray(stored * rowNumbers, stored * rowNumbers + 3) as unknown as [number, number, number]
    const start = this.#starts[stored]!
    const parts = [this.#part(start, first)]
    if (second > 0) parts.push(this.#part(start + first, second))
    return this.codec.row(parts, note)
  }

  #stored(index: number): number {
    const stored = this.order[index]
    return stored ?? fail('rows', `a row below ${this.length}`, String(index), 'a place within the list')
  }

  #part(start: number, length: number): TokenRow {
    const ids = new Int32Array(length)
    const counted = new Uint8Array(length)
    this.source.ids(start, ids)
    this.source.counted(start, counted)
    return { ids, counted }
  }

  dispose(): void {
    this.source.dispose()
  }
}

/** An array as a list. */
export function rowList<Row>(rows: readonly Row[], codec: RowCodec<Row>): RowList<Row> {
  return {
    length: rows.length,
    at: (index) => rows[index] ?? fail('rows', `a row below ${rows.length}`, String(index), 'a place within the list'),
    tokens: (index) => codec.parts(rows[index]!).reduce((sum, { ids }) => sum + ids.length, 0),
    dispose: () => undefined,
  }
}

/** The rows in pieces of `size`, each in memory only as long as it is used. */
export function* rowPieces<Row>(rows: RowList<Row>, size: number): Generator<Row[]> {
  for (let start = 0; start < rows.length; start += size) yield rowsFrom(rows, start, start + size)
}

/** Rows `start` to `end`, or to the last one. */
export function rowsFrom<Row>(rows: RowList<Row>, start: number, end: number): Row[] {
  return Array.from({ length: Math.max(0, Math.min(end, rows.length) - start) }, (_, i) => rows.at(start + i))
}
