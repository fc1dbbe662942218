// The rows one stage may see: read, mapped, split over the steps, weighted, blended, and the held-out part.
import { fail } from '../base/errors.js'
import type { HubHooks } from '../hub/resolve.js'
import type { Dataset, DatasetOptions } from './readers.js'
import { openDataset } from './readers.js'
import type { RawRow } from './records.js'
import { blended, parseDataSplit, parseDataWeights, splitRule } from './split.js'

export interface StageDataOptions {
  dataPath: readonly string[]
  dataWeights: string | null
  dataSplit: string | null
  columns: string | null
  /** "none" alone: nothing is held out, also where a set has a test split. */
  evalDataPath: readonly string[]
  evalFraction: number
  seed: number
}

export interface StageData {
  train: RawRow[]
  eval: RawRow[]
  /** Rows without a prompt or an answer, such as transcripts without a shared "Assistant:", left out by the reader. */
  skipped: number
  /** What a user should know of how the sets were read, one line each. */
  notes: string[]
}

/** `step` 1 SFT, 2 reward, 3 PPO picks the slice of --data-split; without one every row is for training. */
export async function stageData(options: StageDataOptions, step: 1 | 2 | 3, hub: HubHooks = {}): Promise<StageData> {
  const { seed, dataSplit, dataPath, evalDataPath } = options
  const weights = parseDataWeights(options.dataWeights, dataPath.length)
  const open: DatasetOptions = { columns: options.columns, pairs: step === 2, hub }
  const noHeld = evalDataPath.length === 1 && evalDataPath[0] === 'none'
  const evalFraction = evalDataPath.length > 0 ? 0 : options.evalFraction
  const split = { proportions: dataSplit === null ? [1] : parseDataSplit(dataSplit), step: dataSplit === null ? 1 : step, evalFraction, seed }
  const sets: Dataset[] = []
  for (const path of dataPath) sets.push(await openDataset(path, open))

  const train: RawRow[] = []
  const held: RawRow[] = []
  let read = 0
  let skipped = 0
  for (const [i, set] of sets.entries()) {
    const rule = splitRule({ ...split, weight: weights[i]! })
    for await (const row of set.rows()) {
      read++
      const { copies, held: isHeld } = rule(row.at.index!)
      for (let copy = 0; copy < copies; copy++) train.push(row)
      if (isHeld) held.push(row)
    }
    skipped += set.skipped
  }
  if (train.length === 0) {
    const asked = [dataSplit === null ? '' : `--data-split ${dataSplit}`, evalFraction === 0 ? '' : `--eval-fraction ${evalFraction}`, options.dataWeights === null ? '' : `--data-weights ${options.dataWeights}`]
    fail('data', 'rows for this step', `none of ${read} with ${asked.filter(Boolean).join(' ')}`, 'other shares or more rows')
  }

  // Files that are named for it go first, then a share that is asked for, then a split that the sets bring along.
  const beside = evalFraction > 0 || noHeld ? [] : sets.flatMap((set) => set.held ?? [])
  const evalSets = evalDataPath.length > 0 ? (noHeld ? [] : await heldSets(evalDataPath, open)) : beside
  for (const set of evalSets) for await (const row of set.rows()) held.push(row)
  const notes = [...sets.flatMap(noteOf), ...(evalDataPath.length > 0 ? [] : evalSets.map((set) => `${set.path}: ${set.files.length === 1 ? '1 file' : `${set.files.length} files`} of a test or validation split held out`))]
  // one set as it stands needs no blending: every epoch has an order of its own
  const asTheyStand = dataSplit === null && evalFraction === 0
  return { train: asTheyStand ? train : blended(train, seed, 'train'), eval: evalFraction > 0 ? blended(held, seed, 'eval') : held, skipped, notes }
}

/** Of a folder with a test or validation split that split, else all rows. */
async function heldSets(paths: readonly string[], open: DatasetOptions): Promise<Dataset[]> {
  const sets: Dataset[] = []
  for (const path of paths) {
    const set = await openDataset(path, open)
    sets.push(set.held ?? set)
  }
  return sets
}

const noteOf = ({ path, mapping }: Dataset): string[] => (mapping === null || mapping === '--columns' || mapping === path ? [] : [`${path}: read as ${mapping}`])
