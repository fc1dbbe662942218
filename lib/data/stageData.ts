// The rows one stage may see: read, split over the steps, blended, and the held-out part.
import { fail } from '../base/errors.js'
import { readDatasets } from './readers.js'
import type { RawRow } from './records.js'
import { blend, parseDataSplit } from './split.js'

export interface StageDataOptions {
  dataPath: readonly string[]
  dataSplit: string | null
  evalDataPath: readonly string[]
  evalFraction: number
  seed: number
}

export interface StageData {
  train: RawRow[]
  eval: RawRow[]
  /** Transcripts without a shared "Assistant:", left out by the reader. */
  skipped: number
}

/** `step` 1 SFT, 2 reward, 3 PPO picks the slice of --data-split; without one every row is for training. */
export async function stageData(options: StageDataOptions, step: 1 | 2 | 3): Promise<StageData> {
  const { seed, evalFraction, dataSplit } = options
  const sets = await readDatasets(options.dataPath)
  const rows = sets.map((s) => s.rows)
  const skipped = sets.reduce((n, s) => n + s.skipped, 0)
  const held = options.evalDataPath.length > 0 ? (await readDatasets(options.evalDataPath)).flatMap((s) => s.rows) : null
  const fraction = held ? 0 : evalFraction
  if (dataSplit === null && fraction === 0) return { train: rows.flat(), eval: held ?? [], skipped }
  const proportions = dataSplit === null ? [1] : parseDataSplit(dataSplit)
  const parts = blend(rows, { proportions, step: dataSplit === null ? 1 : step, evalFraction: fraction, seed })
  if (parts.train.length === 0) fail('data', 'rows for this step', `none of ${rows.flat().length} with --data-split ${dataSplit}`, 'another --data-split or more rows')
  return { train: parts.train, eval: held ?? parts.eval, skipped }
}
