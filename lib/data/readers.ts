/** Files and folders of rows -> validated rows, streamed or in memory. */
import { fail } from '../base/errors.js'
import { dataFiles } from './folders.js'
import { needFormat } from './formats/formats.js'
import type { RawRow } from './records.js'
import { parseRow, understoodFields, understoodShapes } from './rowShapes.js'

/** The rows of one data path, which is one data set for splitting and blending. */
export interface Dataset {
  readonly path: string
  readonly files: readonly string[]
  /** The test or validation files that stand beside a train split; null where there are none. */
  readonly held: Dataset | null
  /** Reads and validates from the start, each time it is called. Errors name file, line, field and cure. */
  rows(): AsyncGenerator<RawRow>
  /** Rows that the last reading left out because they hold no prompt or no answer; complete when it has ended. */
  readonly skipped: number
}

/** The same, read to its end. */
export interface LoadedDataset {
  readonly path: string
  readonly rows: readonly RawRow[]
  readonly skipped: number
}

class FileDataset implements Dataset {
  skipped = 0

  constructor(
    readonly path: string,
    readonly files: readonly string[],
    readonly held: Dataset | null,
  ) {}

  async *rows(): AsyncGenerator<RawRow> {
    this.skipped = 0
    let index = 0
    let kept = 0
    for (const file of this.files) {
      for await (const { value, at } of needFormat(file).rows(file, understoodFields)) {
        const row = parseRow(value, { ...at, index: index++ })
        if (row === null) this.skipped++
        else {
          kept++
          yield row
        }
      }
    }
    if (kept === 0) this.#refuseEmpty()
  }

  #refuseEmpty(): never {
    if (this.skipped > 0) {
      fail('data', `rows with a prompt in ${this.path}`, `${this.skipped} rows whose two texts share no "Assistant:"`, 'rows {prompt, chosen, rejected}')
    }
    fail('data', `at least one row in ${this.path}`, 'an empty dataset', `one JSON object on each line, in a shape of ${understoodShapes}`)
  }
}

/** Opens a data file or a folder of them; nothing but names is read yet. Errors: no such path, no data files in it. */
export async function openDataset(target: string): Promise<Dataset> {
  const { train, held } = await dataFiles(target)
  return new FileDataset(target, train, held.length > 0 ? new FileDataset(target, held, null) : null)
}

/** Reads one data path into memory. A set without a usable row is an error. */
export async function readDataset(target: string): Promise<LoadedDataset> {
  const dataset = await openDataset(target)
  const rows: RawRow[] = []
  for await (const row of dataset.rows()) rows.push(row)
  return { path: target, rows, skipped: dataset.skipped }
}

/** Reads several data paths in order; one data set each. */
export async function readDatasets(targets: string | readonly string[]): Promise<LoadedDataset[]> {
  const datasets: LoadedDataset[] = []
  for (const target of typeof targets === 'string' ? [targets] : targets) datasets.push(await readDataset(target))
  return datasets
}
