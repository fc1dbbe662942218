/** What every file format gives: rows as plain values, with the place they were read from. */
import type { Location } from '../records.js'

export interface ParsedRow {
  readonly value: unknown
  readonly at: Location
}

/** One kind of data file. */
export interface Format {
  /** Files of one kind may stand for one data set together. */
  readonly kind: string
  /** Endings of its file names, with the dot. */
  readonly endings: readonly string[]
  /** The names of the columns: of the schema or the header where there is one, else the fields of the first row. */
  columns(file: string): Promise<string[]>
  /** All rows in order. `wanted` names the columns that will be looked at; a format that can leaves the others unread. */
  rows(file: string, wanted: readonly string[] | null): AsyncGenerator<ParsedRow>
}
