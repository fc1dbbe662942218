// A run as it happens: its folder (config.json, metrics.jsonl, samples.jsonl), its progress line, its stop button.
import type { WriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
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
  /** Save a checkpoint after this step, then stop as on Ctrl-C. */
  stopAfter?: number
}

/** Bytes of the two files of lines. */
export interface Written {
  metrics: number
  samples: number
}

/** A file of JSON lines that is written in order, from its start or on from where an earlier run left it. */
class Lines {
  #failure: unknown = null

  private constructor(
    readonly file: string,
    private readonly handle: FileHandle,
    private readonly stream: WriteStream,
    /** Bytes, those on their way included. */
    public bytes: number,
  ) {
    // the first line that could not be written (a full disk): training goes on, close() tells
    stream.on('error', (error) => (this.#failure ??= error))
  }

  /** `keep`: bytes of an earlier run to go on from; what comes after them is cut off. */
  static async open(file: string, keep: number | null): Promise<Lines> {
    const handle = await open(file, keep === null ? 'w' : 'a').catch((error: unknown) => failOnFile(error, `to write ${file}`))
    const { size } = await handle.stat()
    const bytes = Math.min(size, keep ?? 0)
    if (size > bytes) await handle.truncate(bytes)
    return new Lines(file, handle, handle.createWriteStream(), bytes)
  }

  write(value: object): void {
    const line = JSON.stringify(value) + '\n'
    this.bytes += Buffer.byteLength(line)
    this.stream.write(line)
  }

  /** Settles when everything written so far is on the disk. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve) => this.stream.write('', () => resolve()))
    this.#throw()
    await this.handle.sync()
  }

  async close(): Promise<void> {
    if (!this.stream.closed) await new Promise<void>((resolve) => void this.stream.once('close', resolve).end())
    this.#throw()
  }

  #throw(): void {
    const failure = this.#failure
    this.#failure = null
    if (failure) failOnFile(failure, `to write ${this.file}`)
  }
}

export class Run {
  #metrics: Lines | null = null
  #samples: Lines | null = null
  #stopped = false

  private constructor(
    readonly stage: string,
    /** Null: nothing is written. */
    readonly folder: string | null,
    readonly hooks: RunHooks,
  ) {}

  /**
   * Makes sure the folder can be written before any work, and records the resolved configuration. `resumed`: what of
   * the files of an earlier run belongs to the steps that are done.
   */
  static async open(stage: string, folder: string | null, config: object, hooks: RunHooks, resumed: Written | null = null): Promise<Run> {
    const run = new Run(stage, folder, hooks)
    if (!folder) return run
    await ensureWritable(folder)
    await writeJson(join(folder, 'config.json'), { stage, ...config })
    run.#metrics = await Lines.open(join(folder, 'metrics.jsonl'), resumed?.metrics ?? null)
    run.#samples = await Lines.open(join(folder, 'samples.jsonl'), resumed?.samples ?? null)
    return run
  }

  get progress(): Progress {
    return this.hooks.progress
  }

  /** One line of metrics.jsonl. */
  log(step: number, metrics: Metrics): void {
    this.#metrics?.write({ stage: this.stage, step, time: Date.now() / 1000, ...metrics })
  }

  /** One line of samples.jsonl. */
  sample(step: number, sample: Record<string, unknown>): void {
    this.#samples?.write({ stage: this.stage, step, ...sample })
  }

  /** What the files of lines hold, lines on their way included. */
  get written(): Written {
    return { metrics: this.#metrics?.bytes ?? 0, samples: this.#samples?.bytes ?? 0 }
  }

  /** Settles when all lines so far are on the disk. Errors: one that could not be written. */
  async flush(): Promise<void> {
    await this.#metrics?.flush()
    await this.#samples?.flush()
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
    const [metrics, samples] = [this.#metrics, this.#samples]
    this.#metrics = this.#samples = null
    const ended = await Promise.allSettled([metrics?.close(), samples?.close()])
    for (const one of ended) if (one.status === 'rejected') throw one.reason
  }
}
