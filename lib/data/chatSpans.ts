/**
 * Where in a rendered conversation the assistant speaks. A template is a program, so its text is taken apart by
 * rendering it again with something changed; a span counts only where these renders prove it:
 *
 * 1. {% generation %} blocks, where a template has them, say it themselves.
 * 2. The text of the messages before an answer, with the generation prompt, is the beginning of the text with the
 *    answer, and that of the whole text: the answer is what lies between. A rollout continues exactly this prompt.
 * 3. Otherwise (reasoning that is dropped later, a generation prompt the answer does not repeat) the message's content is
 *    replaced by a word that stands nowhere else. What is around that word is what is around the content, and where the
 *    generation prompt ends and the end mark is seen from renders of the messages up to this one.
 *
 * Anything else is refused by name.
 */
import { fail } from '../base/errors.js'
import type { Message } from './records.js'

export interface Span {
  readonly from: number
  readonly to: number
}

export interface Renderer {
  /** Where the template stands, for errors. */
  readonly file: string
  readonly marksGeneration: boolean
  /** Tokens that are found in a text as a whole: a span never begins or ends inside one. */
  readonly addedTokens: readonly string[]
  render(messages: readonly Message[], options: { generationPrompt: boolean; marks?: { open: string; close: string } }): string
}

export interface AnswerSpans {
  /** The whole conversation, without a generation prompt. */
  readonly text: string
  /** In order, not overlapping. An answer that the template leaves out has none. */
  readonly spans: readonly Span[]
}

/** For all renders of one conversation, each of which takes about a millisecond. */
const mostMilliseconds = 3000

/** The spans of the assistant's messages from `firstAnswer` on. */
export function answerSpans(messages: readonly Message[], firstAnswer: number, given: Renderer): AnswerSpans {
  const deadline = performance.now() + mostMilliseconds
  const renderer: Renderer = {
    ...given,
    render: (list, options) => {
      if (performance.now() > deadline) throw new OutOfTime()
      return given.render(list, options)
    },
  }
  try {
    return provenSpans(messages, firstAnswer, renderer)
  } catch (error) {
    if (!(error instanceof OutOfTime)) throw error
    fail('chat template', `a chat template that is rendered in reasonable time in ${given.file}`, `more than ${mostMilliseconds / 1000} seconds`, 'to correct chat_template in the tokenizer files')
  }
}

class OutOfTime extends Error {}

function provenSpans(messages: readonly Message[], firstAnswer: number, renderer: Renderer): AnswerSpans {
  const text = renderer.render(messages, { generationPrompt: false })
  if (renderer.marksGeneration) return { text, spans: markedSpans(messages, firstAnswer, renderer, text) }
  const spans: Span[] = []
  for (const [index, message] of messages.entries()) {
    if (message.role !== 'assistant' || index < firstAnswer) continue
    const span = spanByPrefix(messages, index, renderer, text) ?? spanByWord(messages, index, renderer, text)
    if (span === null) continue
    if (span.from < (spans.at(-1)?.to ?? 0)) failOnPlace(renderer, index, 'a place inside the answer before')
    spans.push(span)
  }
  return { text, spans }
}

function failOnPlace(renderer: Renderer, index: number, received: string): never {
  fail(
    'chat template',
    `a chat template that shows where the answer in message ${index + 1} begins and ends in ${renderer.file}`,
    received,
    'a template with {% generation %} around what the assistant says, or rows with a prompt and an answer as text',
  )
}

/** A word that is in no message and not in the text. */
function unusedWord(messages: readonly Message[], text: string, name: string): string {
  for (let n = 0; ; n++) {
    const word = `qz${name}${n}zq`
    if (!text.includes(word) && messages.every(({ content, role }) => !content.includes(word) && !role.includes(word))) return word
  }
}

function markedSpans(messages: readonly Message[], firstAnswer: number, renderer: Renderer, text: string): Span[] {
  const [open, close] = [unusedWord(messages, text, 'open'), unusedWord(messages, text, 'close')]
  const marked = renderer.render(messages, { generationPrompt: false, marks: { open, close } })
  const spans: Span[] = []
  let plain = ''
  let from = -1
  for (const part of marked.split(new RegExp(`(${open}|${close})`))) {
    if (part === open) {
      if (from >= 0) failOnPlace(renderer, messages.length - 1, '{% generation %} inside {% generation %}')
      from = plain.length
    } else if (part === close) {
      spans.push({ from, to: plain.length })
      from = -1
    } else plain += part
  }
  if (plain !== text) failOnPlace(renderer, messages.length - 1, 'a template that changes what stands in {% generation %}')
  const answers = messages.filter(({ role }) => role === 'assistant').length
  const skipped = messages.slice(0, firstAnswer).filter(({ role }) => role === 'assistant').length
  if (skipped === 0) return spans.filter(({ from, to }) => to > from)
  if (spans.length !== answers) failOnPlace(renderer, firstAnswer, `${spans.length} {% generation %} blocks for ${answers} answers`)
  return spans.slice(skipped).filter(({ from, to }) => to > from)
}

/** Null where a render fails: some templates refuse a conversation that stops early. */
function tryRender(renderer: Renderer, messages: readonly Message[], generationPrompt: boolean): string | null {
  try {
    return renderer.render(messages, { generationPrompt })
  } catch (error) {
    if (error instanceof OutOfTime) throw error
    return null
  }
}

function spanByPrefix(messages: readonly Message[], index: number, renderer: Renderer, text: string): Span | null {
  const upTo = index === messages.length - 1 ? text : tryRender(renderer, messages.slice(0, index + 1), false)
  if (upTo === null || !text.startsWith(upTo)) return null
  const prompt = tryRender(renderer, messages.slice(0, index), true)
  if (prompt === null || !upTo.startsWith(prompt)) return null
  // A template that leaves the answer out renders less than its own generation prompt.
  return { from: prompt.length, to: upTo.length }
}

function withContent(messages: readonly Message[], index: number, content: string): Message[] {
  return messages.map((message, i) => (i === index ? { ...message, content } : message))
}

/** What stands before and after a message's content; null where the content does not appear exactly once. */
function around(renderer: Renderer, messages: readonly Message[], index: number, word: string, generationPrompt: boolean): { before: string; after: string } | null {
  const rendered = tryRender(renderer, withContent(messages, index, word), generationPrompt)
  const parts = rendered?.split(word) ?? []
  return parts.length === 2 ? { before: parts[0]!, after: parts[1]! } : null
}

function spanByWord(messages: readonly Message[], index: number, renderer: Renderer, text: string): Span | null {
  const word = unusedWord(messages, text, 'word')
  const rendered = renderer.render(withContent(messages, index, word), { generationPrompt: false })
  // Left out: what it says makes no difference.
  if (rendered === text && index < messages.length - 1) return null
  const whole = around(renderer, messages, index, word, false)
  if (whole === null) failOnPlace(renderer, index, 'a template that changes the content, or writes it more than once')
  const { before, after } = whole
  const content = text.slice(before.length, text.length - after.length)
  if (before.length + after.length > text.length || !text.startsWith(before) || !text.endsWith(after) || !messages[index]!.content.includes(content)) {
    failOnPlace(renderer, index, 'a template whose text around the answer depends on what it says')
  }
  const start = before.length - beginningOf(messages, index, renderer, word, before)
  return { from: start, to: text.length - after.length + endOf(messages, index, renderer, word, after) }
}

/**
 * How many characters right before the content belong to the answer: those the model writes itself, because they stand
 * behind the generation prompt.
 */
function beginningOf(messages: readonly Message[], index: number, renderer: Renderer, word: string, before: string): number {
  const previous = index - 1
  const history = messages.slice(0, index)
  const other = unusedWord(messages, before, 'before')
  // Both between the content of the message before and the answer: in the whole text, and in the prompt of a rollout.
  const between = previous < 0 ? before : textBetween(around(renderer, withContent(messages, index, word), previous, other, false)?.after, word)
  const prompt = previous < 0 ? tryRender(renderer, [], true) : around(renderer, history, previous, other, true)?.after
  if (between === null || prompt === undefined || prompt === null || !before.endsWith(between)) {
    return failOnPlace(renderer, index, 'a template that does not show where its generation prompt ends')
  }
  if (between.startsWith(prompt)) return between.length - prompt.length
  // A beginning that is put into the model's mouth ("<think>") and not kept.
  if (between !== '' && prompt.startsWith(between)) return 0
  return failOnPlace(renderer, index, 'a template whose text before an answer is not its generation prompt')
}

/** What stands before the word; null where it is not there. */
function textBetween(after: string | undefined, word: string): string | null {
  const at = after?.indexOf(word) ?? -1
  return at < 0 ? null : after!.slice(0, at)
}

/**
 * How many characters behind the content belong to the answer: its end mark, as it stands when the answer is the last. A
 * template may close the whole text with something of its own; where the two texts part, both with an added token, the
 * end mark is over.
 */
function endOf(messages: readonly Message[], index: number, renderer: Renderer, word: string, after: string): number {
  if (index === messages.length - 1) return after.length
  const last = around(renderer, messages.slice(0, index + 1), index, word, false)
  const length = last === null ? null : after.startsWith(last.after) ? last.after.length : partingAtTokens(after, last.after, renderer.addedTokens)
  if (length === null) return failOnPlace(renderer, index, 'a template whose text behind an answer changes once more follows')
  // It must be over before the content of the next message begins.
  const next = around(renderer, withContent(messages, index, word), index + 1, unusedWord(messages, after, 'next'), false)
  const between = next === null ? null : textBehind(next.before, word)
  if (next !== null && (between === null || between.length < length)) return failOnPlace(renderer, index, 'a template that puts messages into another order')
  return length
}

function textBehind(text: string, word: string): string | null {
  const at = text.indexOf(word)
  return at < 0 ? null : text.slice(at + word.length)
}

/** Where two texts part, if both go on with an added token there; null otherwise. */
function partingAtTokens(a: string, b: string, addedTokens: readonly string[]): number | null {
  let common = 0
  while (common < a.length && common < b.length && a[common] === b[common]) common++
  // The texts of two tokens may begin alike: back to where the tokens begin.
  for (let at = common; at >= 0; at--) {
    const [first, second] = [a, b].map((text) => addedTokens.filter((token) => token !== '' && text.startsWith(token, at)).reduce((x, y) => (y.length > x.length ? y : x), ''))
    if (first !== '' && second !== '' && first !== second && at + Math.min(first.length, second.length) > common) return at
  }
  return null
}
