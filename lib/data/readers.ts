/** Files and folders of rows -> validated rows, streamed or in memory. */
import { fail } from '../base/errors.js'
import { pathExists } from '../base/files.js'
import type { HubHooks } from '../hub/resolve.js'
import { parseHubId, resolveDataset } from '../hub/resolve.js'
import type { SplitNames } from './folders.js'
import { dataFiles, divide } from './folders.js'
import { formatOf, needFormat } from './formats/formats.js'
import type { ParsedRow } from './formats/parsed.js'
import { chooseMapping, columnsOf, hubIdOf, mappedRows, mappingByName } from './mappings/choose.js'
import { columnsMapping } from './mappings/columns.js'
import type { Mapping } from './mappings/mapping.js'
import type { RawRow } from './records.js'
import { understoodShapes } from './rowShapes.js'

export interface DatasetOptions {
  /** `--columns`: takes the place of a built-in mapping. */
  readonly columns?: string | null
  /** Preferences are wanted: rated answers and trees give rankings, else answers and conversations. */
  readonly pairs?: boolean
  /** For a path that is a hub id. */
  readonly hub?: HubHooks
}

/** The rows of one data path, which is one data set for splitting and blending. */
export interface Dataset {
  readonly path: string
  readonly files: readonly string[]
  /** The name of the mapping its rows go through; null where they are in a shape that is understood as it stands. */
  readonly mapping: string | null
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
  readonly #mapping: Mapping | null
  readonly #pairs: boolean

  constructor(
    readonly path: string,
    readonly files: readonly string[],
    readonly held: Dataset | null,
    mapping: Mapping | null,
    pairs: boolean,
  ) {
    this.#mapping = mapping
    this.#pairs = pairs
  }

  get mapping(): string | null {
    return this.#mapping?.name ?? null
  }

  async *rows(): AsyncGenerator<RawRow> {
    this.skipped = 0
    let kept = 0
    for await (const row of mappedRows(this.#parsed(), this.#mapping, this.#pairs)) {
      if (row === null) this.skipped++
      else {
        kept++
        yield row
      }
    }
    if (kept === 0) this.#refuseEmpty()
  }

  async *#parsed(): AsyncGenerator<ParsedRow> {
    for (const file of this.files) yield* needFormat(file).rows(file, columnsOf(this.#mapping))
  }

  #refuseEmpty(): never {
    const { path, skipped } = this
    if (skipped === 0) fail('data', `at least one row in ${path}`, 'an empty dataset', `one JSON object on each line, in a shape of ${understoodShapes}`)
    if (this.#mapping === null) fail('data', `rows with a prompt in ${path}`, `${skipped} rows without one: two texts that share no "Assistant:", or labels without a choice`, 'rows {prompt, chosen, rejected}')
    fail('data', `rows with ${this.#pairs ? 'two answers that are not rated alike' : 'a prompt and an answer'} in ${path}`, `none in ${skipped}, read as ${this.#mapping.name}`, '--columns with the names of this set')
  }
}

/** The path itself, or the folder of the hub's repository of that name: of its files those of the splits that are read. */
async function localPath(target: string, splits: SplitNames | undefined, hub: HubHooks): Promise<string> {
  if (await pathExists(target)) return target
  const id = hubIdOf(target)
  if (parseHubId(id) === null) return target // the reader says that it is not there
  const select = (names: readonly string[]): string[] => {
    const { train, held } = divide(names.filter((name) => formatOf(name) !== null).sort(), splits)
    return [...train, ...held]
  }
  return resolveDataset(id, { ...hub, select })
}

/**
 * Opens a data file, a folder of them, or a hub id; only names and the columns of the first file are read yet. Errors: no such path,
 * no data files in it, --columns that are no pairs.
 */
export async function openDataset(target: string, { columns = null, pairs = false, hub = {} }: DatasetOptions = {}): Promise<Dataset> {
  const own = columns === null ? null : columnsMapping(columns)
  const splits = mappingByName(target)?.splits
  const { train, held } = await dataFiles(await localPath(target, splits, hub), splits)
  const mapping = own ?? chooseMapping(target, await needFormat(train[0]!).columns(train[0]!))
  const of = (files: readonly string[], beside: Dataset | null): Dataset => new FileDataset(target, files, beside, mapping, pairs)
  return of(train, held.length > 0 ? of(held, null) : null)
}

/** Reads one data path into memory. A set without a usable row is an error. */
export async function readDataset(target: string, options: DatasetOptions = {}): Promise<LoadedDataset> {
  const dataset = await openDataset(target, options)
  const rows: RawRow[] = []
  for await (const row of dataset.rows()) rows.push(row)
  return { path: target, rows, skipped: dataset.skipped }
}

/** Reads several data paths in order; one data set each. */
export async function readDatasets(targets: string | readonly string[], options: DatasetOptions = {}): Promise<LoadedDataset[]> {
  const datasets: LoadedDataset[] = []
  for (const target of typeof targets === 'string' ? [targets] : targets) datasets.push(await readDataset(target, options))
  return datasets
}
