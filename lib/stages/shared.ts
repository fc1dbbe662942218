// What the stages have in common: opening the machine, counting steps, saying what was dropped, saving at the end.
import { join } from 'node:path'

import { Progress } from '../base/progress.js'
import { Run } from '../base/run.js'
import type { RunHooks } from '../base/run.js'
import { LoadedModel, expectReplaceable } from '../checkpoint/model.js'
import type { LoadOptions } from '../checkpoint/model.js'
import { epochOrder, batches } from '../data/epochs.js'
import type { TokenReport } from '../data/records.js'
import type { StageData } from '../data/stageData.js'
import type { HubHooks } from '../hub/resolve.js'
import { createDevice } from '../tensor/device.js'
import type { DType, NativeDevice } from '../tensor/device.js'

export interface MachineOptions {
  device: string
  dtype: string
  threads: number
  seed: number
}

export function openDevice({ device, threads }: MachineOptions): NativeDevice & Disposable {
  return createDevice({ device, threads })
}

export function loadModel(device: NativeDevice, folder: string, options: MachineOptions, rest: Omit<LoadOptions, 'dtype'> = {}): Promise<LoadedModel> {
  return LoadedModel.load(device, folder, { dtype: options.dtype as DType, seed: options.seed, ...rest })
}

export const silent: RunHooks = { progress: new Progress(process.stderr, true) }

/** A download from the hub shows on the run's progress line and ends with the run. */
export function hubHooks({ progress, signal }: RunHooks): HubHooks {
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6)
  return { signal, onProgress: ({ id, file, bytes, totalBytes }) => progress.update(`download ${id}`, megabytes(bytes), megabytes(totalBytes), ['MB', file]) }
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

/** Says how many rows there are, and which of the held-out ones were dropped. */
export function noteRows(run: Run, train: TokenReport, held: TokenReport, { skipped, notes }: Pick<StageData, 'skipped' | 'notes'>): void {
  for (const note of notes) run.progress.note(note)
  run.progress.note(describeReport(run.stage, train, skipped))
  if (held.kept < held.rows) run.progress.note(describeReport(`${run.stage}, held out`, held))
}

export interface LoopOptions {
  numTrainEpochs: number
  maxSteps: number
  seed: number
}

/** Optimizer steps of a run over `rows` rows (or packs). */
export function totalSteps(rows: number, rowsPerStep: number, { numTrainEpochs, maxSteps }: LoopOptions): number {
  const all = Math.ceil(rows / rowsPerStep) * numTrainEpochs
  return maxSteps > 0 ? Math.min(maxSteps, all) : all
}

/** The rows of every optimizer step, epoch after epoch; each epoch's order depends on seed and epoch alone. */
export function* stepsOf(rows: number, rowsPerStep: number, options: LoopOptions): Generator<Int32Array> {
  const total = totalSteps(rows, rowsPerStep, options)
  let step = 0
  for (let epoch = 0; ; epoch++)
    for (const batch of batches(epochOrder(rows, options.seed, epoch), rowsPerStep)) {
      if (step++ >= total) return
      yield batch
    }
}

/** Cuts a list into pieces of `size`. */
export function pieces<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size))
}

/** Saves into D/<name> and returns the folder, or null when nothing is kept. */
export async function saveModel(model: LoadedModel, outputDir: string | null, name = 'model'): Promise<string | null> {
  if (outputDir === null) return null
  const folder = join(outputDir, name)
  await model.save(folder)
  return folder
}

/** Opens the run's folder, runs `body`, closes it whatever happens. */
export async function withRun<T>(stage: string, options: { outputDir: string | null }, hooks: RunHooks, body: (run: Run) => Promise<T>): Promise<T> {
  // what the stage will save must not take the place of something else: said before the work, not after it
  if (options.outputDir !== null)
    for (const name of ['model', 'actor', 'critic']) await expectReplaceable(join(options.outputDir, name))
  const run = await Run.open(stage, options.outputDir, options, hooks)
  try {
    return await body(run)
  } finally {
    await run.close()
  }
}

/** Tokens per second since the last call. */
export class Throughput {
  #at = performance.now()

  /** Seconds since the last call and the rate for `tokens`. */
  tick(tokens: number): { seconds: number; tokensPerSecond: number } {
    const now = performance.now()
    const seconds = (now - this.#at) / 1000
    this.#at = now
    return { seconds, tokensPerSecond: tokens / Math.max(seconds, 1e-9) }
  }
}
