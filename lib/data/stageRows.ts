/**
 * The token rows of a stage: raw rows tokenised, in worker threads where there is much to do, and kept on disk by content,
 * so that the next run with the same rows, tokenizer, template and limits reads them back.
 */
import { stat } from 'node:fs/promises'
import type { TokenReport } from './records.js'
import { RowBuffer } from './rowBuffer.js'
import type { RowArrays } from './rowBuffer.js'
import { StoredRows, memorySource, partNumbers } from './rowList.js'
import type { RowCodec, RowList } from './rowList.js'
import { blendedOrder } from './split.js'
import type { StageData } from './stageData.js'
import { TokenStore, storeKey } from './tokenStore.js'
import type { StoreFacts } from './tokenStore.js'
import type { MakerOptions, RowKind, RowMaker } from './tokenize.js'
import { Turns, noFates, refuseNothingKept } from './tokenize.js'
import type { Tokenizer } from './tokenizer.js'
import { tokenizeInWorkers } from './tokenPool.js'
import { Placing, parts } from './tokenWorker.js'
import type { BatchResult, Part } from './tokenWorker.js'

/** Files of this many bytes are worth worker threads and a place on the disk. */
const muchBytes = 4 << 20

export interface StageRowsOptions extends MakerOptions {
  tokenizer: Tokenizer | null
  seed: number
  /** Of tokenising. */
  threads: number
  /** Where tokenised rows are kept: null = nowhere; `always` also keeps small sets; beyond mostInMemory bytes of ids they stay on disk. */
  cache: { folder: string; always: boolean; mostInMemory?: number } | null
}

export interface StageRows<Row> {
  train: RowList<Row>
  held: RowList<Row>
  reports: Record<Part, TokenReport>
  /** Rows without a prompt or an answer. */
  skipped: number
  /** They were read back. */
  cached: boolean
}

/** Errors: those of reading and tokenising; limits that leave no row. */
export async function stageRows<Row>(data: StageData, kind: RowKind<Row>, options: StageRowsOptions): Promise<StageRows<Row>> {
  const much = (await bytesOf(data.files)) >= muchBytes
  const { cache } = options
  if (cache === null || (!much && !cache.always)) return inMemory(data, kind, options, much)
  const store = new TokenStore(cache.folder, await storeKey(data, kind.name, options), cache.mostInMemory)
  const known = await store.open()
  const { facts, part } = known ?? (await store.make((write) => tokenizeAll(data, kind, options, much, write)))
  return { ...listsOf(data, kind.codec, options.seed, part), reports: facts.reports, skipped: facts.skipped, cached: known !== null }
}

async function bytesOf(files: readonly string[]): Promise<number> {
  let sum = 0
  for (const file of files) sum += (await stat(file)).size
  return sum
}

async function inMemory<Row>(data: StageData, kind: RowKind<Row>, options: StageRowsOptions, much: boolean): Promise<StageRows<Row>> {
  const buffers = { train: new RowBuffer(), held: new RowBuffer() }
  const facts = await tokenizeAll(data, kind, options, much, (part, arrays) => {
    buffers[part].appendAll(arrays)
    return Promise.resolve()
  })
  const arrays = { train: buffers.train.take(), held: buffers.held.take() }
  const lists = listsOf(data, kind.codec, options.seed, (part) => ({ source: memorySource(arrays[part].ids, arrays[part].counted), numbers: arrays[part].numbers }))
  return { ...lists, ...facts, cached: false }
}

type Write = (part: Part, arrays: RowArrays) => Promise<void>

/** Reads and tokenises everything, handing over rows a batch at a time. */
async function tokenizeAll<Row>(data: StageData, kind: RowKind<Row>, options: StageRowsOptions, much: boolean, write: Write): Promise<StoreFacts> {
  const { tokenizer, threads, vocabSize, appendEos, countAll, maxSeqLen, maxPromptLen, maxAnswerLen } = options
  const limits = { maxSeqLen, maxPromptLen, maxAnswerLen }
  const fates = { train: noFates(), held: noFates() }
  const take = async (result: BatchResult): Promise<void> => {
    for (const part of parts) {
      for (const [fate, count] of Object.entries(result.fates[part]) as [keyof ReturnType<typeof noFates>, number][]) fates[part][fate] += count
      await write(part, result.arrays[part])
    }
  }
  const maker: MakerOptions = { vocabSize, ...(appendEos !== undefined && { appendEos }), ...(countAll !== undefined && { countAll }), ...limits }
  if (much && threads > 1 && tokenizer?.folder) await tokenizeInWorkers(data.rows(), { kind: kind.name, options: maker, tokenizer: tokenizer.folder }, threads, take)
  else await tokenizeHere(data, kind, { ...maker, tokenizer }, take)
  const report = (part: Part): TokenReport => ({ rows: Object.values(fates[part]).reduce((a, b) => a + b, 0), ...fates[part] })
  const reports = { train: report('train'), held: report('held') }
  for (const part of parts) refuseNothingKept(reports[part], limits)
  return { reports, skipped: data.skipped }
}

async function tokenizeHere<Row>(data: StageData, kind: RowKind<Row>, options: MakerOptions & { tokenizer: Tokenizer | null }, take: (result: BatchResult) => Promise<void>): Promise<void> {
  const placing = new Placing(kind.maker(options) as RowMaker<unknown>, kind.codec as RowCodec<unknown>)
  const turns = new Turns()
  for await (const row of data.rows()) {
    placing.add(row)
    if (placing.buffers.train.tokens + placing.buffers.held.tokens > 1 << 20) await take(placing.take())
    await turns.next()
  }
  await take(placing.take())
}

/** Both parts as lists: training rows as often as their copies say, blended where the sets are. */
function listsOf<Row>(data: StageData, codec: RowCodec<Row>, seed: number, of: (part: Part) => { source: ReturnType<typeof memorySource>; numbers: Uint32Array }): { train: RowList<Row>; held: RowList<Row> } {
  const list = (part: Part, blend: boolean): RowList<Row> => {
    const { source, numbers } = of(part)
    const plain = repeated(numbers)
    const order = blend ? blendedOrder(plain.length, seed, part).map((i) => plain[i]!) : plain
    return new StoredRows(source, numbers, order, codec)
  }
  return { train: list('train', data.blended), held: list('held', data.heldBlended) }
}

/** Stored rows in their order, each as often as its copies say. */
function repeated(numbers: Uint32Array): Int32Array {
  // parts of the row before have no copies of their own
  const copies = numbers.filter((n, i) => i % partNumbers === 2 && n > 0)
  const order = new Int32Array(copies.reduce((sum, n) => sum + n, 0))
  let at = 0
  for (const [row, n] of copies.entries()) order.fill(row, at, (at += n))
  return order
}
