/** Rows of tokens that need not be in memory: from arrays, or from the files of a token store. */
import { closeSync, openSync, readSync } from 'node:fs'
import { fail } from '../base/errors.js'
import type { PairRow, PromptRow, RankedRow, TokenRow } from './records.js'

/** A list of n rows. */
export interface RowList<Row> {
  readonly length: number
  at(index: number): Row
  /** Ids of one row, those of all its answers together. */
  tokens(index: number): number
  /** Lets go of open files. */
  dispose(): void
}

/** How a row becomes one sequence or several, each with a number beside it, and back. */
export interface RowCodec<Row> {
  parts(row: Row): readonly TokenRow[]
  /** Kept beside the parts, whole numbers below 2^32; what a codec does not need is 0. */
  notes(row: Row): readonly number[]
  row(parts: readonly TokenRow[], notes: ArrayLike<number>): Row
  /** What the parts are called where a row is shown. */
  names(row: Row): readonly string[]
}

export const tokenRowCodec: RowCodec<TokenRow> = { parts: (row) => [row], notes: () => [0], row: ([row]) => row!, names: () => ['row'] }

export const pairRowCodec: RowCodec<PairRow> = {
  parts: ({ chosen, rejected }) => [chosen, rejected],
  notes: ({ promptLength }) => [promptLength, 0],
  row: ([chosen, rejected], notes) => ({ chosen: chosen!, rejected: rejected!, promptLength: notes[0]! }),
  names: () => ['chosen', 'rejected'],
}

/** The rank of the first, best answer is always 0: in its place stand the bits of the margin. */
export const rankedRowCodec: RowCodec<RankedRow> = {
  parts: ({ answers }) => answers,
  notes: ({ ranks, margin }) => [new Uint32Array(Float32Array.of(margin).buffer)[0]!, ...ranks.slice(1)],
  row: (answers, notes) => ({ answers, ranks: [0, ...Array.from(notes).slice(1)], margin: new Float32Array(Uint32Array.of(notes[0]!).buffer)[0]! }),
  names: ({ ranks }) => (ranks.length === 2 && ranks[1] === 1 ? ['chosen', 'rejected'] : ranks.map((rank) => `rank ${rank + 1}`)),
}

export const promptRowCodec: RowCodec<PromptRow> = {
  parts: ({ ids }) => [{ ids, counted: new Uint8Array(ids.length) }],
  notes: () => [0],
  row: ([row]) => ({ ids: row!.ids }),
  names: () => ['prompt'],
}

/** Numbers of one part in a store: its length, its note, how often its row is seen; 0 for a part of the row before it. */
export const partNumbers = 3

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
  /** [parts + 1] first id of each part, and the end. */
  readonly #starts: Float64Array
  /** [rows + 1] first part of each stored row, and the end. */
  readonly #parts: Int32Array

  /** `numbers` [parts, 3]; `order` names stored rows. */
  constructor(
    private readonly source: TokenSource,
    private readonly numbers: Uint32Array,
    private readonly order: Int32Array,
    private readonly codec: RowCodec<Row>,
  ) {
    const parts = numbers.length / partNumbers
    this.#starts = new Float64Array(parts + 1)
    const first: number[] = []
    for (let part = 0; part < parts; part++) {
      this.#starts[part + 1] = this.#starts[part]! + numbers[part * partNumbers]!
      if (numbers[part * partNumbers + 2]! > 0) first.push(part)
    }
    this.#parts = Int32Array.from([...first, parts])
  }

  get length(): number {
    return this.order.length
  }

  tokens(index: number): number {
    const [first, end] = this.#range(index)
    return this.#starts[end]! - this.#starts[first]!
  }

  at(index: number): Row {
    const [first, end] = this.#range(index)
    const parts = Array.from({ length: end - first }, (_, i) => this.#part(this.#starts[first + i]!, this.numbers[(first + i) * partNumbers]!))
    return this.codec.row(parts, parts.map((_, i) => this.numbers[(first + i) * partNumbers + 1]!))
  }

  /** The parts of a row: the first, and one behind the last. */
  #range(index: number): [first: number, end: number] {
    const stored = this.order[index] ?? fail('rows', `a row below ${this.length}`, String(index), 'a place within the list')
    return [this.#parts[stored]!, this.#parts[stored + 1]!]
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

/** The rows at `places`, in their order; the list they come from keeps its files. */
export function chosenRows<Row>(rows: RowList<Row>, places: Int32Array): RowList<Row> {
  return { length: places.length, at: (index) => rows.at(places[index]!), tokens: (index) => rows.tokens(places[index]!), dispose: () => undefined }
}
