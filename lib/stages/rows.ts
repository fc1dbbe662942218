// The rows a stage trains on and evaluates with, and what it says of them.
import type { Run } from '../base/run.js'
import { native } from '../binding/native.js'
import type { TokenReport } from '../data/records.js'
import type { StageData, StageDataOptions } from '../data/stageData.js'
import { stageRows } from '../data/stageRows.js'
import type { StageRows } from '../data/stageRows.js'
import { defaultTokenStore } from '../data/tokenStore.js'
import type { MakerOptions, RowKind } from '../data/tokenize.js'
import type { Tokenizer } from '../data/tokenizer.js'

export interface RowOptions extends StageDataOptions {
  /** Folder of tokenised rows: null = the user's cache, for large sets; "none" = nowhere. */
  dataOutputPath: string | null
  threads: number
}

type Limits = MakerOptions & { tokenizer: Tokenizer | null }

/** As stageRows, with the options of a stage. */
export function rowsOf<Row>(data: StageData, kind: RowKind<Row>, limits: Limits, { dataOutputPath, threads, seed }: RowOptions): Promise<StageRows<Row>> {
  const cache = dataOutputPath === 'none' ? null : { folder: dataOutputPath ?? defaultTokenStore(), always: dataOutputPath !== null }
  return stageRows(data, kind, { ...limits, seed, threads: threads === 0 ? native().cpuInfo().cores : threads, cache })
}

/** Reads and tokenises; says how the sets are read, how many rows there are, and which were dropped. */
export async function readRows<Row>(run: Run, data: StageData, kind: RowKind<Row>, limits: Limits, options: RowOptions, what = run.stage): Promise<StageRows<Row>> {
  const rows = await rowsOf(data, kind, limits, options)
  const { train, held } = rows.reports
  for (const note of data.notes) run.progress.note(note)
  run.progress.note(`${describeReport(what, train, rows.skipped)}${rows.cached ? ' (tokenised by an earlier run)' : ''}`)
  if (held.kept < held.rows) run.progress.note(describeReport(`${what}, held out`, held))
  return rows
}

/**
 * "sft: 480 of 500 rows, dropped 20 with a prompt over the limit, skipped 3 rows with no prompt or no answer"; those,
 * which the reader skips, are not among the kept or the dropped ones.
 */
export function describeReport(what: string, report: TokenReport, unusable = 0): string {
  const lost = [
    report.droppedPrompt ? `${report.droppedPrompt} with a prompt over the limit` : '',
    report.droppedAnswer ? `${report.droppedAnswer} with an answer over the limit` : '',
    report.skipped ? `${report.skipped} in which nothing counts` : '',
  ].filter(Boolean)
  const dropped = lost.length ? `, dropped ${lost.join(', ')}` : ''
  const skipped = unusable ? `, skipped ${unusable} row${unusable === 1 ? '' : 's'} with no prompt or no answer` : ''
  return `${what}: ${report.kept} of ${report.rows} rows${dropped}${skipped}`
}
