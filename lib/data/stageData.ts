// The rows one stage may see: read, mapped, split over the steps, weighted, and the held-out part.
import { fail } from '../base/errors.js'
import type { HubHooks } from '../hub/resolve.js'
import type { Dataset, DatasetOptions } from './readers.js'
import { openDataset } from './readers.js'
import type { RawRow } from './records.js'
import { parseDataSplit, parseDataWeights, splitRule } from './split.js'

export interface StageDataOptions {
  dataPath: readonly string[]
  /** Further sets, all of whose rows are for the step: --data-split does not divide them. */
  sftOnlyDataPath?: readonly string[]
  dataWeights: string | null
  dataSplit: string | null
  columns: string | null
  /** "none" alone: nothing is held out, also where a set has a test split. */
  evalDataPath: readonly string[]
  evalFraction: number
  seed: number
}

/** One raw row of a stage: for training, so many times an epoch, or held out. */
export interface StageRow {
  readonly row: RawRow
  readonly copies: number
  readonly held: boolean
}

/** The sets of a stage, opened and not yet read. */
export interface StageData {
  /** Every file that will be read. */
  readonly files: readonly string[]
  /** What decides which row is seen: with the content of the files and the seed all there is to know. */
  readonly rules: Readonly<Record<string, unknown>>
  /** What a user should know of how the sets are read, one line each. */
  readonly notes: readonly string[]
  /** False: the training rows are seen in the order of the files. */
  readonly blended: boolean
  /** Held-out rows come from the same sets. */
  readonly heldBlended: boolean
  /** Reads all rows that the stage may see, each time from the start. */
  rows(): AsyncGenerator<StageRow>
  /** Of the last reading: rows without a prompt or an answer, such as transcripts without a shared "Assistant:". */
  readonly skipped: number
}

/** `step` 1 SFT, 2 reward, 3 PPO picks the slice of --data-split; without one every row is for training. */
export async function openStageData(options: StageDataOptions, step: 1 | 2 | 3, hub: HubHooks = {}): Promise<StageData> {
  const { seed, dataSplit, dataPath, evalDataPath } = options
  const weights = parseDataWeights(options.dataWeights, dataPath.length)
  const open: DatasetOptions = { columns: options.columns, pairs: step === 2, hub }
  const noHeld = evalDataPath.length === 1 && evalDataPath[0] === 'none'
  const evalFraction = evalDataPath.length > 0 ? 0 : options.evalFraction
  const split = { proportions: dataSplit === null ? [1] : parseDataSplit(dataSplit), step: dataSplit === null ? 1 : step, evalFraction, seed }
  const { sftOnlyDataPath: whole = [] } = options
  const sets: Dataset[] = []
  for (const path of [...dataPath, ...whole]) sets.push(await openDataset(path, open))
  // Files that are named for it go first, then a share that is asked for, then a split that the sets bring along.
  const beside = evalFraction > 0 || noHeld ? [] : sets.flatMap((set) => set.held ?? [])
  const evalSets = evalDataPath.length > 0 ? (noHeld ? [] : await heldSets(evalDataPath, open)) : beside
  const heldNotes = evalSets.map((set) => `${set.path}: ${set.files.length === 1 ? '1 file' : `${set.files.length} files`} of a test or validation split held out`)

  let skipped = 0
  async function* rows(): AsyncGenerator<StageRow> {
    skipped = 0
    let read = 0
    let training = 0
    for (const [i, set] of sets.entries()) {
      const rule = splitRule(i < dataPath.length ? { ...split, weight: weights[i]! } : { ...split, proportions: [1], step: 1, weight: 1 })
      for await (const row of set.rows()) {
        read++
        const { copies, held } = rule(row.at.index!)
        training += copies
        if (held || copies > 0) yield { row, copies, held }
      }
      skipped += set.skipped
    }
    if (training === 0) refuseNoRows(options, evalFraction, read)
    for (const set of evalSets) for await (const row of set.rows()) yield { row, copies: 0, held: true }
  }
  return {
    files: [...sets, ...evalSets].flatMap((set) => set.files),
    rules: { ...split, weights, ...(whole.length > 0 && { whole: whole.length }), columns: options.columns, pairs: open.pairs, sets: sets.map(({ files, mapping }) => [files.length, mapping]), evalSets: evalSets.map(({ files, mapping }) => [files.length, mapping]) },
    notes: [...sets.flatMap(noteOf), ...(evalDataPath.length > 0 ? [] : heldNotes)],
    // one set as it stands needs no blending: every epoch has an order of its own
    blended: dataSplit !== null || evalFraction > 0,
    heldBlended: evalFraction > 0,
    rows,
    get skipped() {
      return skipped
    },
  }
}

function refuseNoRows({ dataSplit, dataWeights }: StageDataOptions, evalFraction: number, read: number): never {
  const asked = [dataSplit === null ? '' : `--data-split ${dataSplit}`, evalFraction === 0 ? '' : `--eval-fraction ${evalFraction}`, dataWeights === null ? '' : `--data-weights ${dataWeights}`]
  fail('data', 'rows for this step', `none of ${read} with ${asked.filter(Boolean).join(' ')}`, 'other shares or more rows')
}

/** Of a folder with a test or validation split that split, else all rows. */
export async function heldSets(paths: readonly string[], open: DatasetOptions): Promise<Dataset[]> {
  const sets: Dataset[] = []
  for (const path of paths) {
    const set = await openDataset(path, open)
    sets.push(set.held ?? set)
  }
  return sets
}

const noteOf = ({ path, mapping }: Dataset): string[] => (mapping === null || mapping === '--columns' || mapping === path ? [] : [`${path}: read as ${mapping}`])
