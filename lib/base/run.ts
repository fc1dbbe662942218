// A run as it happens: its folder (config.json, metrics.jsonl, samples.jsonl, events for TensorBoard), its progress line, its stop button.
import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { AppendedFile } from './appended.js'
import { Interrupted } from './errors.js'
import { ensureWritable, writeJson } from './files.js'
import { lockName } from './folderLock.js'
import type { Progress } from './progress.js'
import { TensorboardEvents } from './tensorboard.js'
import type { EventsWritten } from './tensorboard.js'

export type Metrics = Record<string, number | string | boolean | null>

/** What the caller of a stage may pass along. */
export interface RunHooks {
  progress: Progress
  /** Ctrl-C: the stage saves what it has and throws Interrupted. */
  signal?: AbortSignal
  /** Save a checkpoint after this step, then stop as on Ctrl-C. */
  stopAfter?: number
}

/** What of a run's files belongs to the steps of a checkpoint. */
export interface Written {
  /** Bytes of metrics.jsonl and samples.jsonl. */
  metrics: number
  samples: number
  /** Events for TensorBoard; null while there were none. */
  events: EventsWritten | null
}

/** Where a run goes on. */
export interface RunStart {
  /** The checkpoint's step. */
  step: number
  written: Written
}

const jsonLine = (value: object): string => JSON.stringify(value) + '\n'

export class Run {
  #metrics: AppendedFile | null = null
  #samples: AppendedFile | null = null
  #events: TensorboardEvents | null = null
  #stopped = false

  private constructor(
    readonly stage: string,
    /** Null: nothing is written. */
    readonly folder: string | null,
    readonly hooks: RunHooks,
    private readonly start: RunStart | null,
  ) {}

  /**
   * Makes sure the folder can be written before any work, and records the resolved configuration. `start`: what of the
   * files of an earlier run belongs to the steps that are done. `tensorboard`: the folder of events, null without.
   */
  static async open(stage: string, folder: string | null, config: object, hooks: RunHooks, start: RunStart | null = null, tensorboard: string | null = null): Promise<Run> {
    const run = new Run(stage, folder, hooks, start)
    try {
      if (folder !== null) {
        await ensureWritable(folder)
        await writeJson(join(folder, 'config.json'), { stage, ...config })
        run.#metrics = await AppendedFile.open(join(folder, 'metrics.jsonl'), start?.written.metrics ?? null)
        run.#samples = await AppendedFile.open(join(folder, 'samples.jsonl'), start?.written.samples ?? null)
      }
      if (tensorboard !== null) run.#events = await TensorboardEvents.open(tensorboard, stage, start ? start.step + 1 : 0, start?.written.events ?? null)
    } catch (error) {
      await run.close().catch(() => undefined)
      throw error
    }
    return run
  }

  get progress(): Progress {
    return this.hooks.progress
  }

  /** One line of metrics.jsonl; its numbers go to TensorBoard too. */
  log(step: number, metrics: Metrics): void {
    const time = Date.now() / 1000
    this.#metrics?.write(jsonLine({ stage: this.stage, step, time, ...metrics }))
    this.#events?.write(step, time, metrics)
  }

  /** One line of samples.jsonl. */
  sample(step: number, sample: Record<string, unknown>): void {
    this.#samples?.write(jsonLine({ stage: this.stage, step, ...sample }))
  }

  /** What the files hold, lines on their way included. */
  get written(): Written {
    return { metrics: this.#metrics?.bytes ?? 0, samples: this.#samples?.bytes ?? 0, events: this.#events?.written ?? this.start?.written.events ?? null }
  }

  /** Settles when everything so far is on the disk. Errors: what could not be written. */
  async flush(): Promise<void> {
    for (const file of [this.#metrics, this.#samples, this.#events]) await file?.flush()
  }

  get stopped(): boolean {
    return this.#stopped || (this.hooks.signal?.aborted ?? false)
  }

  /** As Ctrl-C does. */
  stop(): void {
    this.#stopped = true
  }

  /** Ends a stopped run after `saved` was written. */
  throwIfStopped(saved: string | null): void {
    if (this.stopped) throw new Interrupted(saved)
  }

  /** Errors: a line of metrics or samples that could not be written. */
  async close(): Promise<void> {
    const files = [this.#metrics, this.#samples, this.#events]
    this.#metrics = this.#samples = this.#events = null
    const ended = await Promise.allSettled(files.map((file) => file?.close()))
    for (const one of ended) if (one.status === 'rejected') throw one.reason
  }
}

/** A closed run that still holds its new folder and has nothing to keep: takes away what it wrote, and the folder with it. */
export async function leaveNothing(folder: string): Promise<void> {
  const there = await readdir(folder)
  const grown = async (name: string): Promise<boolean> => !['metrics.jsonl', 'samples.jsonl'].includes(name) || (await stat(join(folder, name))).size > 0
  for (const name of there) if (![lockName, 'config.json'].includes(name) && (await grown(name))) return
  for (const name of there) await rm(join(folder, name), { force: true })
  await rmdir(folder)
}
