/** One raw row -> token ids of its parts. Here is decided which text becomes prompt and which becomes answer. */
import { fail } from '../base/errors.js'
import type { ChatStyle } from './chatTemplate.js'
import { chatAnswer, chatSegments, renderMessages, transcriptStyle } from './chatTemplate.js'
import type { Judgement, Message, RawRow } from './records.js'
import { describe, shapeName } from './records.js'
import type { Tokenizer } from './tokenizer.js'

export interface TokenizeOptions {
  /** Null for a model folder without a tokenizer: only rows {input_ids} can be used then. */
  readonly tokenizer: Tokenizer | null
  /** The model's vocabulary size: every id must lie below. */
  readonly vocabSize: number
  /** Put the end token after each answer or text (default true). */
  readonly appendEos?: boolean
}

/** A stretch of ids that counts in the loss as a whole or not at all. */
export interface IdSegment {
  readonly ids: Int32Array
  readonly counted: boolean
}

/** As RankedRow, in parts. */
export interface RankedIds {
  readonly prompt: Int32Array
  readonly answers: readonly Int32Array[]
  readonly ranks: readonly number[]
  readonly margin: number
}

/** Turns the parts of a row into ids. One for each tokenising pass. */
export class RowEncoder {
  readonly #tokenizer: Tokenizer | null
  readonly #vocabSize: number
  readonly #appendEos: boolean
  readonly #style: ChatStyle

  constructor(options: TokenizeOptions) {
    this.#tokenizer = options.tokenizer
    this.#vocabSize = options.vocabSize
    this.#appendEos = options.appendEos ?? true
    this.#style = options.tokenizer ?? transcriptStyle
  }

  /** A row with an answer, for SFT and for pretraining: its parts in order. Preference rows give prompt and chosen, rankings prompt and best. */
  segments(row: RawRow): IdSegment[] {
    switch (row.kind) {
      case 'preference':
        return this.#promptAndAnswer(row, row.prompt, row.chosen)
      case 'response':
        return this.#promptAndAnswer(row, row.prompt, row.response)
      case 'ranking':
        return this.#promptAndAnswer(row, row.prompt, row.responses[0]!)
      case 'messagePreference':
      case 'messageRanking': {
        const { prompt, answer } = chatAnswer(row.prompt, row.kind === 'messageRanking' ? row.responses[0]! : row.chosen, this.#style)
        return this.#promptAndAnswer(row, prompt, answer)
      }
      case 'text':
        return [{ ids: this.#ended(row, this.#need(row).encodePrompt(row.text)), counted: true }]
      case 'messages':
        return this.#conversation(row, row.messages)
      case 'ids':
        return idSegments(this.checkedIds(row, row.ids), row.labels)
      case 'prompt':
        fail(
          'data',
          `a row with an answer in ${describe(row.at)}`,
          shapeName(row),
          'rows {prompt, response}, {prompt, chosen, rejected} or {text}',
        )
    }
  }

  /** All ids of a row, where prompt and answer make no difference (pretraining). */
  whole(row: RawRow): IdSegment[] {
    if (row.kind === 'prompt') return [{ ids: this.#ended(row, this.#need(row).encodePrompt(row.prompt)), counted: true }]
    if (row.kind === 'messages') {
      const text = renderMessages(row.messages, this.#style, { generationPrompt: false })
      return [{ ids: this.#ended(row, this.#need(row).encodePrompt(text)), counted: true }]
    }
    return this.segments(row)
  }

  /** A row with two answers or more to one prompt, each with its end token. */
  ranked(row: RawRow): RankedIds {
    const { prompt: text, answers, ranks, margin } = this.#judged(row)
    const prompt = this.#prompt(row, text)
    return { prompt, answers: answers.map((answer) => this.#answer(row, prompt, answer)), ranks, margin }
  }

  /** Its texts, best first. */
  #judged(row: RawRow): { prompt: string; answers: readonly string[]; ranks: readonly number[]; margin: number } {
    switch (row.kind) {
      case 'preference':
        return { prompt: row.prompt, answers: [row.chosen, row.rejected], ...judgementOf(row) }
      case 'ranking':
        return { prompt: row.prompt, answers: row.responses, ranks: row.ranks, margin: 0 }
      case 'messagePreference':
        return { ...this.#chatAnswers(row, [row.chosen, row.rejected]), ...judgementOf(row) }
      case 'messageRanking':
        return { ...this.#chatAnswers(row, row.responses), ranks: row.ranks, margin: 0 }
      default:
        fail('data', `a row with two answers in ${describe(row.at)}`, shapeName(row), 'rows {prompt, chosen, rejected}, {chosen, rejected} or {prompt, responses, ranking}')
    }
  }

  #chatAnswers(row: RawRow & { prompt: readonly Message[] }, responses: readonly (readonly Message[])[]): { prompt: string; answers: string[] } {
    const texts = responses.map((response) => chatAnswer(row.prompt, response, this.#style))
    const { prompt } = texts[0]!
    if (texts.some((text) => text.prompt !== prompt)) {
      fail(
        'data',
        `one text before all answers in ${describe(row.at)}`,
        'several, because the chat template writes the question differently before each',
        'rows with a prompt and answers as text',
      )
    }
    return { prompt, answers: texts.map(({ answer }) => answer) }
  }

  /** What stands before the answer of a row, to sample from. */
  promptOnly(row: RawRow): Int32Array {
    return row.kind === 'ids' ? this.checkedIds(row, row.ids) : this.#prompt(row, this.#promptText(row))
  }

  #promptText(row: Exclude<RawRow, { kind: 'ids' }>): string {
    switch (row.kind) {
      case 'preference':
      case 'response':
      case 'ranking':
      case 'prompt':
        return row.prompt
      case 'messagePreference':
      case 'messageRanking':
        return renderMessages(row.prompt, this.#style, { generationPrompt: true })
      case 'messages': {
        const answered = row.messages.at(-1)?.role === 'assistant'
        return renderMessages(answered ? row.messages.slice(0, -1) : row.messages, this.#style, { generationPrompt: true })
      }
      case 'text':
        fail('data', `a row with a prompt in ${describe(row.at)}`, shapeName(row), 'to name the field "prompt"')
    }
  }

  #promptAndAnswer(row: RawRow, prompt: string, answer: string): IdSegment[] {
    const ids = this.#prompt(row, prompt)
    return [
      { ids, counted: false },
      { ids: this.#answer(row, ids, answer), counted: true },
    ]
  }

  #conversation(row: RawRow, messages: readonly Message[]): IdSegment[] {
    if (messages.at(-1)?.role !== 'assistant') {
      fail(
        'data',
        `messages that end with the assistant's in ${describe(row.at)}`,
        `the role "${messages.at(-1)?.role}"`,
        'to leave the last message out',
      )
    }
    const pieces = chatSegments(messages, this.#style)
    let before: Int32Array = new Int32Array(0)
    return pieces.map(({ text, answer }, index) => {
      const last = index === pieces.length - 1
      const ids = index === 0 ? this.#prompt(row, text) : last ? this.#answer(row, before, text) : this.#behind(row, before, text)
      if (ids.length > 0) before = ids
      return { ids, counted: answer }
    })
  }

  /**
   * Prompt ids, special ones in front. A prompt that gives no id at all becomes the start token (or the end token, as
   * GPT-2 uses it), because a model cannot continue nothing.
   */
  #prompt(row: RawRow, text: string): Int32Array {
    const tokenizer = this.#need(row)
    const ids = this.checkedIds(row, tokenizer.encodePrompt(text))
    if (ids.length > 0) return ids
    const start = tokenizer.bosId ?? tokenizer.eosId
    if (start === null) fail('data', `a prompt that is not empty in ${describe(row.at)}`, 'an empty one', 'to leave the row out')
    return Int32Array.of(start)
  }

  /** Ids that continue others: no special ones in front. */
  #behind(row: RawRow, before: Int32Array, text: string): Int32Array {
    return this.checkedIds(row, this.#need(row).encodeBehind(before, text))
  }

  /** Answer ids: they continue the prompt's, one end token behind. */
  #answer(row: RawRow, before: Int32Array, text: string): Int32Array {
    return this.#ended(row, this.#need(row).encodeBehind(before, text))
  }

  #ended(row: RawRow, ids: Int32Array): Int32Array {
    return this.checkedIds(row, this.#withEos(ids))
  }

  /**
   * Ends ids with exactly one end token. Where the text wrote it already (a chat template), white space that the
   * template puts behind it goes, because sampling stops at the end token too.
   */
  #withEos(ids: Int32Array): Int32Array {
    const eosId = this.#tokenizer?.eosId ?? null
    if (!this.#appendEos || eosId === null || this.#tokenizer === null) return ids
    const written = ids.lastIndexOf(eosId)
    if (written >= 0 && this.#tokenizer.decode(ids.subarray(written + 1), { skipSpecial: false }).trim() === '') {
      return ids.slice(0, written + 1)
    }
    return Int32Array.from([...ids, eosId])
  }

  /** Errors name file, line, position, id and vocabulary size. */
  checkedIds(row: RawRow, ids: Int32Array): Int32Array {
    const wrong = ids.findIndex((id) => id >= this.#vocabSize)
    if (wrong < 0) return ids
    fail(
      'data',
      `token ids below the vocabulary size ${this.#vocabSize} at position ${wrong} of ${describe(row.at)}`,
      String(ids[wrong]),
      'the tokenizer that belongs to this model',
    )
  }

  #need(row: RawRow): Tokenizer {
    if (this.#tokenizer !== null) return this.#tokenizer
    fail(
      'data',
      `{input_ids} in ${describe(row.at)}, because the model folder has no tokenizer`,
      shapeName(row),
      'to put tokenizer.json (or vocab.json and merges.txt, or tokenizer.model) into the model folder',
    )
  }
}

/** Ids with labels, cut where counting starts and stops. */
function idSegments(ids: Int32Array, labels: Int32Array | null): IdSegment[] {
  if (labels === null) return [{ ids, counted: true }]
  const segments: IdSegment[] = []
  let start = 0
  for (let t = 1; t <= ids.length; t++) {
    const counted = labels[start] !== -100
    if (t < ids.length && (labels[t] !== -100) === counted) continue
    segments.push({ ids: ids.subarray(start, t), counted })
    start = t
  }
  return segments
}

const judgementOf = ({ tie, margin = 0 }: Judgement): { ranks: number[]; margin: number } => ({ ranks: tie ? [0, 0] : [0, 1], margin })
