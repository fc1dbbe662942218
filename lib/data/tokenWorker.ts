/** A worker thread that tokenises batches of raw rows; lib/data/tokenPool.ts starts it. */
import { parentPort, workerData } from 'node:worker_threads'
import { asThreefoldError } from '../base/errors.js'
import type { RawRow } from './records.js'
import { RowBuffer } from './rowBuffer.js'
import type { RowArrays } from './rowBuffer.js'
import type { RowCodec } from './rowList.js'
import type { Fate, MakerOptions, RowKindName, RowMaker } from './tokenize.js'
import { noFates, rowKinds } from './tokenize.js'
import { Tokenizer } from './tokenizer.js'

/** What a worker is told at its start. */
export interface WorkerJob {
  kind: RowKindName
  options: MakerOptions
  /** Folder of the tokenizer. */
  tokenizer: string
}

/** A raw row, how often it is seen in an epoch, or that it is held out. */
export interface PlacedRow {
  row: RawRow
  copies: number
  held: boolean
}

export type Part = 'train' | 'held'
export const parts: readonly Part[] = ['train', 'held']

/** What became of a batch. */
export interface BatchResult {
  arrays: Record<Part, RowArrays>
  fates: Record<Part, Record<Fate, number>>
}

export type BatchAnswer = { result: BatchResult } | { error: { where: string; expected: string; received: string; cure: string } }

/** Tokenises placed rows one by one into buffers of both parts. */
export class Placing {
  readonly buffers = { train: new RowBuffer(), held: new RowBuffer() }
  fates = { train: noFates(), held: noFates() }

  constructor(
    private readonly maker: RowMaker<unknown>,
    private readonly codec: RowCodec<unknown>,
  ) {}

  add({ row, copies, held }: PlacedRow): void {
    const part: Part = held ? 'held' : 'train'
    const fate = this.maker(row, (tokens) => this.buffers[part].append(this.codec.parts(tokens), this.codec.notes(tokens), held ? 1 : copies))
    this.fates[part][fate]++
  }

  take(): BatchResult {
    const { fates } = this
    this.fates = { train: noFates(), held: noFates() }
    return { arrays: { train: this.buffers.train.take(), held: this.buffers.held.take() }, fates }
  }
}

if (parentPort !== null && (workerData as Partial<WorkerJob> | null)?.tokenizer !== undefined) {
  const port = parentPort
  const { kind, options, tokenizer } = workerData as WorkerJob
  const { codec, maker } = rowKinds[kind]
  const ready = Tokenizer.load(tokenizer).then((t) => new Placing(maker({ ...options, tokenizer: t }) as RowMaker<unknown>, codec as RowCodec<unknown>))
  port.on('message', (batch: PlacedRow[]) => {
    ready
      .then((placing) => {
        for (const row of batch) placing.add(row)
        const result = placing.take()
        const memory = parts.flatMap((part) => Object.values(result.arrays[part]).map((a: Int32Array | Uint8Array | Uint32Array) => a.buffer as ArrayBuffer))
        port.postMessage({ result } satisfies BatchAnswer, memory)
      })
      .catch((error: unknown) => {
        const { where, expected, received, cure } = asThreefoldError(error, 'data')
        port.postMessage({ error: { where, expected, received, cure } } satisfies BatchAnswer)
      })
  })
}
