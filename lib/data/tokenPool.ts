/** Worker threads that tokenise; results come back in the order of the rows. */
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { ThreefoldError } from '../base/errors.js'
import { packageRoot } from '../binding/load.js'
import type { BatchAnswer, BatchResult, PlacedRow, WorkerJob } from './tokenWorker.js'

/** Rows of one message: enough that sending them costs little beside tokenising them. */
const batchRows = 256
/** Batches on their way to or from each worker. */
const ahead = 3

interface Waiting {
  resolve(result: BatchResult): void
  reject(error: unknown): void
}

class Helper {
  readonly #worker: Worker
  readonly #waiting: Waiting[] = []

  constructor(job: WorkerJob) {
    // always the compiled file: a worker thread knows no TypeScript loader
    this.#worker = new Worker(join(packageRoot, 'dist', 'data', 'tokenWorker.js'), { workerData: job })
    this.#worker.on('message', (answer: BatchAnswer) => {
      const { resolve, reject } = this.#waiting.shift()!
      if ('result' in answer) return resolve(answer.result)
      const { where, expected, received, cure } = answer.error
      reject(new ThreefoldError(where, expected, received, cure))
    })
    this.#worker.on('error', (error) => {
      for (const { reject } of this.#waiting.splice(0)) reject(error)
    })
  }

  get load(): number {
    return this.#waiting.length
  }

  run(batch: PlacedRow[]): Promise<BatchResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#worker.postMessage(batch)
    })
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Tokenises a stream of rows in `threads` workers and hands each batch's result to `take`, in the order of the rows. */
export async function tokenizeInWorkers(rows: AsyncIterable<PlacedRow>, job: WorkerJob, threads: number, take: (result: BatchResult) => Promise<void>): Promise<void> {
  const helpers = Array.from({ length: threads }, () => new Helper(job))
  const running: Promise<BatchResult>[] = []
  const send = (batch: PlacedRow[]): void => {
    const free = helpers.reduce((a, b) => (b.load < a.load ? b : a))
    const result = free.run(batch)
    // its error is met when its turn comes
    result.catch(() => undefined)
    running.push(result)
  }
  try {
    let batch: PlacedRow[] = []
    for await (const row of rows) {
      batch.push(row)
      if (batch.length < batchRows) continue
      send(batch)
      batch = []
      if (running.length >= threads * ahead) await take(await running.shift()!)
    }
    if (batch.length > 0) send(batch)
    for (const result of running) await take(await result)
  } finally {
    await Promise.all(helpers.map((helper) => helper.end()))
  }
}
