// A run as it happens: its folder (config.json, metrics.jsonl, samples.jsonl), its progress line, its stop button.
import { createWriteStream } from 'node:fs'
import type { WriteStream } from 'node:fs'
import { join } from 'node:path'

import { Interrupted } from './errors.js'
import { ensureWritable, writeJson } from './files.js'
import type { Progress } from './progress.js'

export type Metrics = Record<string, number | string | boolean | null>

/** What the caller of a stage may pass along. */
export interface RunHooks {
  progress: Progress
  /** Ctrl-C: the stage saves what it has and throws Interrupted. */
  signal?: AbortSignal
}

export class Run {
  #metrics: WriteStream | null
  #samples: WriteStream | null

  private constructor(
    readonly stage: string,
    /** Null: nothing is written. */
    readonly folder: string | null,
    readonly hooks: RunHooks,
  ) {
    const stream = (name: string): WriteStream | null => (folder ? createWriteStream(join(folder, name)) : null)
    this.#metrics = stream('metrics.jsonl')
    this.#samples = stream('samples.jsonl')
  }

  /** Makes sure the folder can be written before any work, and records the resolved configuration. */
  static async open(stage: string, folder: string | null, config: object, hooks: RunHooks): Promise<Run> {
    if (folder) {
      await ensureWritable(folder)
      await writeJson(join(folder, 'config.json'), { stage, ...config })
    }
    return new Run(stage, folder, hooks)
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

  async close(): Promise<void> {
    const end = (s: WriteStream | null): Promise<void> => new Promise((resolve, reject) => (s ? s.once('error', reject).end(resolve) : resolve()))
    await Promise.all([end(this.#metrics), end(this.#samples)])
    this.#metrics = this.#samples = null
  }
}
