/**
 * Raw rows -> token rows, one kind for each use. A prompt is encoded with the tokenizer's special tokens, an
 * answer without, and the two id lists are joined: a rollout continues exactly the ids the trainer saw. Nothing is
 * cut silently: a row that does not fit is dropped and counted.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fail } from '../base/errors.js'
import type { PairRow, PromptRow, RankedRow, RawRow, TokenReport, TokenRow } from './records.js'
import type { IdSegment } from './rowIds.js'
import { RowEncoder } from './rowIds.js'
import type { RowCodec } from './rowList.js'
import { pairRowCodec, promptRowCodec, rankedRowCodec, tokenRowCodec } from './rowList.js'
import type { Tokenizer } from './tokenizer.js'

/** In tokens; a limit that is left out does not hold. */
export interface TokenLimits {
  /** Prompt and answer together, the end token included. */
  readonly maxSeqLen?: number | undefined
  readonly maxPromptLen?: number | undefined
  /** The end token included. */
  readonly maxAnswerLen?: number | undefined
}

/** Token rows and what became of the raw ones. */
export interface Tokenized<Row> {
  readonly rows: Row[]
  readonly report: TokenReport
}

export type Fate = 'kept' | 'droppedPrompt' | 'droppedAnswer' | 'skipped'

/** Longest stretch of tokenising, in milliseconds, after which timers and input get their turn. */
const turnMilliseconds = 10

/** Makes token rows of one raw row, hands them to `keep`, and says what became of it. */
export type RowMaker<Row> = (row: RawRow, keep: (tokens: Row) => void) => Fate

/** How to tokenise; a plain object, so that a worker can be told. */
export interface MakerOptions extends TokenLimits {
  readonly vocabSize: number
  readonly appendEos?: boolean
  /** SFT: every token but the first counts. */
  readonly countAll?: boolean
}

/** One way of making rows: for a stage, and for the workers that do its work. */
export interface RowKind<Row> {
  readonly name: RowKindName
  readonly codec: RowCodec<Row>
  maker(options: MakerOptions & { readonly tokenizer: Tokenizer | null }): RowMaker<Row>
}

export type RowKindName = 'answers' | 'pairs' | 'prompts' | 'rankings' | 'texts'

/** SFT: the answer's tokens and the end token count; with countAll every token but the first does. */
export const answerKind: RowKind<TokenRow> = {
  name: 'answers',
  codec: tokenRowCodec,
  maker(options) {
    const encoder = new RowEncoder(options)
    return (row, keep) => {
      const segments = encoder.segments(row)
      const tokens = joinSegments(segments, options.countAll ?? false)
      const promptLength = segments[0]?.counted === false ? segments[0].ids.length : 0
      const fate = fits(promptLength, tokens.ids.length - promptLength, options)
      if (fate === 'kept' && !tokens.counted.includes(1)) return 'skipped'
      if (fate === 'kept') keep(tokens)
      return fate
    }
  },
}

/** Reward model: all answers of a row, joined to the same prompt ids; a row of which one answer does not fit is dropped. */
export const rankedKind: RowKind<RankedRow> = {
  name: 'rankings',
  codec: rankedRowCodec,
  maker(options) {
    const encoder = new RowEncoder(options)
    return (row, keep) => {
      const { prompt, answers, ranks, margin } = encoder.ranked(row)
      const fate = fits(prompt.length, Math.max(...answers.map((answer) => answer.length)), options)
      if (fate !== 'kept') return fate
      if (answers.some((answer) => answer.length === 0)) return 'skipped'
      const join = (ids: Int32Array): TokenRow =>
        joinSegments(
          [
            { ids: prompt, counted: false },
            { ids, counted: true },
          ],
          false,
        )
      keep({ answers: answers.map(join), ranks, margin: Math.fround(margin) })
      return fate
    }
  },
}

/** DPO: every pair of a row's answers of which one is better. A row whose answers are all alike is skipped; margins play no part. */
export const pairKind: RowKind<PairRow> = {
  name: 'pairs',
  codec: pairRowCodec,
  maker(options) {
    const maker = rankedKind.maker(options)
    return (row, keep) => {
      let kept = false
      const fate = maker(row, ({ answers, ranks }) => {
        const promptLength = answers[0]!.counted.indexOf(1)
        for (const [i, chosen] of answers.entries())
          for (const [j, rejected] of answers.entries()) {
            if (ranks[i]! >= ranks[j]!) continue
            keep({ chosen, rejected, promptLength })
            kept = true
          }
      })
      return fate === 'kept' && !kept ? 'skipped' : fate
    }
  },
}

/** Prompts to sample from. The answers a row may have play no part. maxSeqLen leaves room for one token. */
export const promptKind: RowKind<PromptRow> = {
  name: 'prompts',
  codec: promptRowCodec,
  maker(options) {
    const encoder = new RowEncoder(options)
    return (row, keep) => {
      const ids = encoder.promptOnly(row)
      const fate = fits(ids.length, 0, options)
      if (fate === 'kept') keep({ ids })
      return fate
    }
  },
}

/**
 * Pretraining: every token of a row counts but its first. A longer row becomes pieces of at most maxSeqLen tokens, the
 * last token of a piece being the first of the next one: every token is predicted exactly once and none is lost.
 * Rows {input_ids, labels} count where their labels do. The report counts rows, not pieces.
 */
export const textKind: RowKind<TokenRow> = {
  name: 'texts',
  codec: tokenRowCodec,
  maker(options) {
    const { maxSeqLen = Infinity } = options
    if (!(maxSeqLen >= 2)) fail('--max-seq-len', 'at least 2 tokens', String(maxSeqLen), '--max-seq-len 512')
    const encoder = new RowEncoder(options)
    return (row, keep) => {
      const segments = encoder.whole(row)
      const labelled = row.kind === 'ids' && row.labels !== null
      const whole = joinSegments(segments, !labelled)
      if (!whole.counted.includes(1)) return 'skipped'
      for (const piece of overlappingPieces(whole, maxSeqLen)) keep(piece)
      return 'kept'
    }
  },
}

/** By name, for a worker. */
export const rowKinds: Readonly<Record<RowKindName, RowKind<TokenRow> | RowKind<PairRow> | RowKind<PromptRow> | RowKind<RankedRow>>> = { answers: answerKind, pairs: pairKind, prompts: promptKind, rankings: rankedKind, texts: textKind }

function* overlappingPieces(row: TokenRow, maxSeqLen: number): Generator<TokenRow> {
  const last = row.ids.length - 1
  for (let start = 0; start < last; start += maxSeqLen - 1) {
    const counted = row.counted.slice(start, start + maxSeqLen)
    counted[0] = 0
    yield { ids: row.ids.slice(start, start + maxSeqLen), counted }
  }
}

/** Ids one behind the other; counted[0] stays 0 because nothing predicts the first token. */
export function joinSegments(segments: readonly IdSegment[], countAll: boolean): TokenRow {
  const length = segments.reduce((sum, { ids }) => sum + ids.length, 0)
  const ids = new Int32Array(length)
  const counted = new Uint8Array(length)
  let start = 0
  for (const segment of segments) {
    ids.set(segment.ids, start)
    if (segment.counted || countAll) counted.fill(1, start, start + segment.ids.length)
    start += segment.ids.length
  }
  if (length > 0) counted[0] = 0
  return { ids, counted }
}

function fits(promptLength: number, answerLength: number, limits: TokenLimits): Fate {
  const { maxSeqLen = Infinity, maxPromptLen = Infinity, maxAnswerLen = Infinity } = limits
  // One token of answer must find room behind the prompt.
  if (promptLength > maxPromptLen || promptLength >= maxSeqLen) return 'droppedPrompt'
  if (answerLength > maxAnswerLen || promptLength + answerLength > maxSeqLen) return 'droppedAnswer'
  return 'kept'
}

/** Tokenises rows that are in memory. A kind's limits that leave none of them are an error. */
export async function tokenizeRows<Row>(kind: RowKind<Row>, raw: readonly RawRow[], options: MakerOptions & { readonly tokenizer: Tokenizer | null }): Promise<Tokenized<Row>> {
  const maker = kind.maker(options)
  const rows: Row[] = []
  const count = noFates()
  const turns = new Turns()
  for (const row of raw) {
    count[maker(row, (tokens) => rows.push(tokens))]++
    await turns.next()
  }
  const report = { rows: raw.length, ...count }
  refuseNothingKept(report, options)
  return { rows, report }
}

export const noFates = (): Record<Fate, number> => ({ kept: 0, droppedPrompt: 0, droppedAnswer: 0, skipped: 0 })

/** Lets timers and input have their turn when a stretch of work was long enough. */
export class Turns {
  #ends = performance.now() + turnMilliseconds

  async next(): Promise<void> {
    if (performance.now() < this.#ends) return
    await nextTurn()
    this.#ends = performance.now() + turnMilliseconds
  }
}

/** Error: rows were there and none is left. */
export function refuseNothingKept(report: TokenReport, limits: TokenLimits): void {
  if (report.rows === 0 || report.kept > 0) return
  const given = [
    limits.maxSeqLen === undefined ? '' : `--max-seq-len ${limits.maxSeqLen}`,
    limits.maxPromptLen === undefined ? '' : `--max-prompt-seq-len ${limits.maxPromptLen}`,
    limits.maxAnswerLen === undefined ? '' : `--max-answer-seq-len ${limits.maxAnswerLen}`,
  ].filter((limit) => limit !== '')
  fail(
    'data',
    `at least one row that can be used${given.length === 0 ? '' : ` within ${given.join(', ')}`}`,
    `none of ${report.rows} (prompt too long: ${report.droppedPrompt}, answer too long: ${report.droppedAnswer}, nothing that counts: ${report.skipped})`,
    given.length === 0 ? 'rows with text in them' : 'larger limits or shorter rows',
  )
}
