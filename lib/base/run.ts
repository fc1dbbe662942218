// A run as it happens: its folder (config.json, metrics.jsonl, samples.jsonl), its progress line, its stop button.
import type { WriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'

import { Interrupted } from './errors.js'
import { ensureWritable, failOnFile, writeJson } from './files.js'
import type { Progress } from './progress.js'

export type Metrics = Record<string, number | string | boolean | null>

/** What the caller of a stage may pass along. */
export interface RunHooks {
  progress: Progress
  /** Ctrl-C: the stage saves what it has and throws Interrupted. */
  signal?: AbortSignal
}

export class Run {
  #metrics: WriteStream | null = null
  #samples: WriteStream | null = null
  /** The first line that could not be written (a full disk): training goes on, close() tells. */
  #failure: { error: unknown; file: string } | null = null

  private constructor(
    readonly stage: string,
    /** Null: nothing is written. */
    readonly folder: string | null,
    readonly hooks: RunHooks,
  ) {}

  /** Makes sure the folder can be written before any work, and records the resolved configuration. */
  static async open(stage: string, folder: string | null, config: object, hooks: RunHooks): Promise<Run> {
    const run = new Run(stage, folder, hooks)
    if (!folder) return run
    await ensureWritable(folder)
    await writeJson(join(folder, 'config.json'), { stage, ...config })
    run.#metrics = await run.#lines(join(folder, 'metrics.jsonl'))
    run.#samples = await run.#lines(join(folder, 'samples.jsonl'))
    return run
  }

  async #lines(file: string): Promise<WriteStream> {
    const handle = await open(file, 'w').catch((error: unknown) => failOnFile(error, `to write ${file}`))
    return handle.createWriteStream().on('error', (error) => (this.#failure ??= { error, file }))
  }

  get progress(): Progress {
    return this.hooks.progress
  }

  /** One line of metrics.jsonl. */
  log(step: number, metrics: Metrics): void {
    this.#metrics?.write(JSON.stringify({ stage: this.stage, step, time: Date.now() / 1000, ...metrics }) + '\n')
  }

  /** One line of samples.jsonl. */
  sample(step: number, sample: Record<string, unknown>): void {
    this.#samples?.write(JSON.stringify({ stage: this.stage, step, ...sample }) + '\n')
  }

  get stopped(): boolean {
    return this.hooks.signal?.aborted ?? false
  }

  /** Ends a stopped run after `saved` was written. */
  throwIfStopped(saved: string | null): void {
    if (this.stopped) throw new Interrupted(saved)
  }

  /** Errors: a line of metrics or samples that could not be written. */
  async close(): Promise<void> {
    const end = (s: WriteStream | null): Promise<void> => new Promise((resolve) => (s && !s.closed ? void s.once('close', resolve).end() : resolve()))
    await Promise.all([end(this.#metrics), end(this.#samples)])
    this.#metrics = this.#samples = null
    const failure = this.#failure
    this.#failure = null
    if (failure) failOnFile(failure.error, `to write ${failure.file}`)
  }
}
