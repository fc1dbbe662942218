// When a run saves itself, and what it goes on from. Contract 3: a run killed at any moment goes on bit-exactly.
import { fail } from '../base/errors.js'
import { flagName } from '../base/options.js'
import type { Run } from '../base/run.js'
import { packageVersion } from '../binding/load.js'
import { dropOldCheckpoints, lastCheckpoint, removeCheckpoints, writeCheckpoint } from '../checkpoint/runCheckpoint.js'
import type { RunCheckpoint } from '../checkpoint/runCheckpoint.js'
import type { Snapshot } from '../checkpoint/snapshot.js'
import type { NativeDevice } from '../tensor/device.js'

export interface SaveOptions {
  outputDir: string | null
  saveSteps: number
  saveSeconds: number
  keepLast: number
  keepEvery: number
  resume: string
}

/** Options that change nothing of what is computed, nor of metrics.jsonl and samples.jsonl. */
const free = new Set(['outputDir', 'threads', 'dataOutputPath', 'saveSteps', 'saveSeconds', 'keepLast', 'keepEvery', 'resume', 'enableTensorboard', 'tensorboardPath', 'deepspeedConfig', 'printLoss', 'printAnswers', 'printAnswersInterval'])

/** Where options differ, in words. */
export function differences(then: Readonly<Record<string, unknown>>, now: Readonly<Record<string, unknown>>): string[] {
  const keys = [...new Set([...Object.keys(now), ...Object.keys(then)])].filter((key) => !free.has(key))
  const text = (value: unknown): string => JSON.stringify(value, (key, v: unknown) => (free.has(key) ? undefined : v)) ?? 'nothing'
  return keys.filter((key) => text(then[key]) !== text(now[key])).map((key) => `${flagName(key)} ${text(now[key])} instead of ${text(then[key])}`)
}

/** The checkpoint that this run goes on from, null where it starts anew. Error: it is one of another configuration. */
export async function findCheckpoint(stage: string, options: SaveOptions): Promise<RunCheckpoint | null> {
  const { outputDir, resume } = options
  if (outputDir === null) return null
  if (resume === 'never') {
    await removeCheckpoints(outputDir)
    return null
  }
  const checkpoint = await lastCheckpoint(outputDir)
  if (!checkpoint) return null
  const { state } = checkpoint
  if (state.stage !== stage) fail('--output-dir', `a folder for a run of ${stage}`, `${outputDir} with checkpoints of ${state.stage}`, 'another --output-dir, or --resume never to start anew')
  const changed = differences(state.options, { ...options })
  if (changed.length > 0 && resume !== 'changed')
    fail('--resume', `the options of the run in ${outputDir}, which is at step ${state.step}`, changed.join(', '), 'the same options to go on, --resume changed to go on with the new ones, or --resume never to start anew')
  return checkpoint
}

export class Saves {
  #machine = ''
  /** Of the newest save. */
  #step = -1
  #lastAt = performance.now()
  /** The save under way; it never rejects. */
  #pending: Promise<void> | null = null
  #failure: { error: unknown } | null = null

  constructor(
    private readonly run: Run,
    private readonly options: SaveOptions,
    private readonly checkpoint: RunCheckpoint | null,
  ) {}

  /** Once the device is open: the checkpoint to go on from, if there is one. */
  begin(device: NativeDevice): RunCheckpoint | null {
    const { name, architecture } = device.stats()
    this.#machine = `${name} ${architecture}`
    this.#lastAt = performance.now()
    const { checkpoint, run } = this
    if (!checkpoint) return null
    const { step, machine } = checkpoint.state
    run.progress.note(`${run.stage}: goes on after step ${step}, from ${checkpoint.folder}`)
    if (machine !== this.#machine) run.progress.note(`${run.stage}: was computed by ${machine} and is now by ${this.#machine}, which rounds differently: what follows is not bit-equal to one run.`)
    return checkpoint
  }

  /** After a step: saves when it is time to. Training goes on meanwhile. Errors: the save before this one failed. */
  async after(step: number, parts: () => Record<string, Snapshot>): Promise<void> {
    const { saveSteps, saveSeconds } = this.options
    this.#throw()
    const stopHere = this.run.hooks.stopAfter === step
    if (stopHere) this.run.stop()
    const late = saveSeconds > 0 && performance.now() - this.#lastAt >= 1000 * saveSeconds && !this.#pending
    if (late || stopHere || (saveSteps > 0 && step % saveSteps === 0)) await this.now(step, parts)
  }

  /** Saves whatever the time. */
  async now(step: number, parts: () => Record<string, Snapshot>): Promise<void> {
    const { run, options } = this
    const { folder } = run
    if (folder === null || step === this.#step) return
    await this.settle()
    this.#step = step
    this.#lastAt = performance.now()
    const state = { version: packageVersion(), stage: run.stage, step, options: { ...options }, machine: this.#machine, written: run.written }
    const snapshots = parts()
    const write = async (): Promise<void> => {
      await writeCheckpoint(folder, state, snapshots, () => run.flush())
      await dropOldCheckpoints(folder, { last: options.keepLast, every: options.keepEvery })
    }
    this.#pending = write()
      .catch((error: unknown) => void (this.#failure = { error }))
      .finally(() => (this.#pending = null))
  }

  /** Waits for the save under way. Errors: it failed. */
  async settle(): Promise<void> {
    await this.#pending
    this.#throw()
  }

  #throw(): void {
    const failure = this.#failure
    this.#failure = null
    if (failure) throw failure.error
  }
}
