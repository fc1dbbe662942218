/** The records of the data layer: rows as they stand in files, and rows of tokens. */

/** Where a row was read: line of a JSONL or CSV file, or row of a JSON array or Parquet file; both 1-based. */
export interface Location {
  readonly file: string
  readonly line: number
  readonly unit: 'line' | 'row'
  /**
   * Place in the data set, from 0: what --data-split and --eval-fraction go by. Rows that belong together (answers to one
   * prompt, messages of one tree) have the same. Absent where a row was not read from a set.
   */
  readonly index?: number
}

export interface Message {
  readonly role: string
  readonly content: string
}

/** One validated row of a dataset. Transcripts `{chosen, rejected}` are already cut into a prompt and two answers. */
export type RawRow = RawShape & {
  /** As it stands in the file: `generate` draws the row's answer with it. */
  readonly seed?: unknown
}

/** How two answers were judged, beyond which is better. */
export interface Judgement {
  /** How much better the chosen answer is, in units of the score; absent: 0. */
  readonly margin?: number
  /** Both are alike. */
  readonly tie?: true
}

type RawShape =
  | ({
      readonly kind: 'preference'
      readonly prompt: string
      readonly chosen: string
      readonly rejected: string
      readonly at: Location
    } & Judgement)
  | { readonly kind: 'response'; readonly prompt: string; readonly response: string; readonly at: Location }
  | { readonly kind: 'text'; readonly text: string; readonly at: Location }
  | { readonly kind: 'prompt'; readonly prompt: string; readonly at: Location }
  | { readonly kind: 'messages'; readonly messages: readonly Message[]; readonly at: Location }
  | ({
      readonly kind: 'messagePreference'
      readonly prompt: readonly Message[]
      readonly chosen: readonly Message[]
      readonly rejected: readonly Message[]
      readonly at: Location
    } & Judgement)
  | {
      readonly kind: 'ranking'
      readonly prompt: string
      /** [K] best first. */
      readonly responses: readonly string[]
      /** [K] from 0, rising; equal where answers were judged alike. */
      readonly ranks: readonly number[]
      readonly at: Location
    }
  | {
      readonly kind: 'messageRanking'
      readonly prompt: readonly Message[]
      readonly responses: readonly (readonly Message[])[]
      readonly ranks: readonly number[]
      readonly at: Location
    }
  | {
      readonly kind: 'ids'
      readonly ids: Int32Array
      /** Same length as ids; -100 does not count. Null: every token counts. */
      readonly labels: Int32Array | null
      readonly at: Location
    }

/** One sequence of n tokens. */
export interface TokenRow {
  /** [n] */
  readonly ids: Int32Array
  /** [n] 1 where the token at t is a target that counts in the loss; counted[0] is always 0 (nothing predicts it). */
  readonly counted: Uint8Array
}

/** Two answers to one prompt. In both, the first promptLength ids are the same and do not count. */
export interface PairRow {
  readonly chosen: TokenRow
  readonly rejected: TokenRow
  readonly promptLength: number
}

/** K >= 2 answers to one prompt, which begins each of them and does not count. */
export interface RankedRow {
  /** [K] best first. */
  readonly answers: readonly TokenRow[]
  /** [K] smaller is better; equal where answers were judged alike. */
  readonly ranks: readonly number[]
  /** How much better the first answer was judged than the second, of two; else 0. */
  readonly margin: number
}

/** One prompt to sample from. */
export interface PromptRow {
  readonly ids: Int32Array
}

/** What became of the rows of a dataset when they were tokenised: rows = kept + droppedPrompt + droppedAnswer + skipped. */
export interface TokenReport {
  readonly rows: number
  readonly kept: number
  /** The prompt alone was longer than its limit. */
  readonly droppedPrompt: number
  /** The prompt fits, the whole answer does not (an answer is never cut). */
  readonly droppedAnswer: number
  /** Nothing in the row counts in the loss (an empty text, labels that are all -100). */
  readonly skipped: number
}

/** "train.jsonl line 7" */
export function describe(at: Location): string {
  return `${at.file} ${at.unit} ${at.line}`
}

/** The fields of a row as a user wrote them, for messages that say which shape was found. */
export function shapeName(row: RawRow): string {
  switch (row.kind) {
    case 'preference':
      return '{prompt, chosen, rejected}'
    case 'response':
      return '{prompt, response}'
    case 'text':
      return '{text}'
    case 'prompt':
      return '{prompt}'
    case 'messages':
      return '{messages}'
    case 'messagePreference':
      return '{chosen, rejected} as messages'
    case 'ranking':
      return '{prompt, responses, ranking}'
    case 'messageRanking':
      return '{prompt, responses, ranking} as messages'
    case 'ids':
      return row.labels === null ? '{input_ids}' : '{input_ids, labels}'
  }
}
