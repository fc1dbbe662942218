/** One parsed JSON value -> one validated row. The shapes are those every command understands. */
import { fail } from '../base/errors.js'
import { isJsonObject, kindOf } from '../base/json.js'
import { parseJudgement, parseRanks } from './judgements.js'
import type { Location, Message, RawRow } from './records.js'
import { describe } from './records.js'

type Fields = Record<string, unknown>

/** Every shape a row may have, as error messages list them. */
export const understoodShapes =
  '{prompt, chosen, rejected}, {chosen, rejected}, {prompt, responses, ranking}, {prompt, response}, {text}, {prompt}, {messages}, {input_ids, labels?}'

/** The fields those shapes are made of: no other column needs to be read. */
export const understoodFields = ['prompt', 'chosen', 'rejected', 'margin', 'tie', 'label', 'responses', 'ranking', 'response', 'text', 'messages', 'input_ids', 'labels', 'seed'] as const

const uncounted = -100
const maxId = 2 ** 31 - 1

/**
 * Validates one row. Null: a transcript pair that shares no `Assistant:`, or message lists that share no message, so
 * that there is no prompt; a label of `threefold label` without a choice. The reader counts those. A field that is null is
 * taken as absent.
 */
export function parseRow(value: unknown, at: Location): RawRow | null {
  if (!isJsonObject(value)) {
    fail('data', `a JSON object in ${describe(at)}`, kindOf(value), `one of the row shapes ${understoodShapes}`)
  }
  if (isOpenLabel(value)) return null
  const row = shapedRow(value, at)
  return row !== null && value['seed'] !== undefined ? { ...row, seed: value['seed'] } : row
}

/** What a labeler left open prefers neither answer. */
const isOpenLabel = ({ labeler, choice }: Fields): boolean => typeof labeler === 'string' && (choice === 'skip' || choice === 'both-bad')

function shapedRow(value: Fields, at: Location): RawRow | null {
  const has = (name: string): boolean => value[name] !== undefined && value[name] !== null
  if (has('input_ids')) return idsRow(value, at)
  if (has('messages')) return { kind: 'messages', messages: messageList(value, 'messages', at), at }
  if (has('chosen') || has('rejected')) {
    return Array.isArray(value['chosen']) || Array.isArray(value['rejected']) ? messagePair(value, at) : textPair(value, at)
  }
  if (has('responses') && has('ranking')) return rankingRow(value, at)
  if (has('response'))
    return { kind: 'response', prompt: textField(value, 'prompt', at), response: textField(value, 'response', at), at }
  if (has('text')) return { kind: 'text', text: textField(value, 'text', at), at }
  if (Array.isArray(value['prompt'])) return { kind: 'messages', messages: messageList(value, 'prompt', at), at }
  if (has('prompt')) return { kind: 'prompt', prompt: textField(value, 'prompt', at), at }
  const fields = Object.keys(value)
  fail(
    'data',
    `a row shape that is understood in ${describe(at)}`,
    fields.length === 0 ? 'an object without fields' : `the fields ${fields.map((name) => JSON.stringify(name)).join(', ')}`,
    `to rename the fields to one of ${understoodShapes}`,
  )
}

function textField(fields: Fields, name: string, at: Location): string {
  const value = fields[name]
  if (typeof value === 'string') return value
  fail(
    'data',
    `a string in field "${name}" of ${describe(at)}`,
    kindOf(value),
    `to write the field "${name}" as text in double quotes`,
  )
}

function textPair(fields: Fields, at: Location): RawRow | null {
  const chosen = textField(fields, 'chosen', at)
  const rejected = textField(fields, 'rejected', at)
  if (fields['prompt'] !== undefined && fields['prompt'] !== null) {
    return { kind: 'preference', prompt: textField(fields, 'prompt', at), chosen, rejected, ...parseJudgement(fields, at), at }
  }
  const cut = sharedPromptLength(chosen, rejected)
  if (cut === 0) return null
  return { kind: 'preference', prompt: chosen.slice(0, cut), chosen: chosen.slice(cut), rejected: rejected.slice(cut), ...parseJudgement(fields, at), at }
}

/** Length of the text up to and including the last `Assistant:` that two transcripts share; 0 when there is none. */
export function sharedPromptLength(a: string, b: string): number {
  const limit = Math.min(a.length, b.length)
  let shared = 0
  while (shared < limit && a.charCodeAt(shared) === b.charCodeAt(shared)) shared++
  const marker = 'Assistant:'
  const found = a.slice(0, shared).lastIndexOf(marker)
  return found < 0 ? 0 : found + marker.length
}

function messageList(fields: Fields, name: string, at: Location): Message[] {
  const value = fields[name]
  const cure = 'a list such as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
  if (!Array.isArray(value)) fail('data', `a list of messages in field "${name}" of ${describe(at)}`, kindOf(value), cure)
  if (value.length === 0) fail('data', `at least one message in field "${name}" of ${describe(at)}`, 'an empty list', cure)
  return value.map((message: unknown, index) => {
    const place = `"${name}" message ${index + 1} of ${describe(at)}`
    if (!isJsonObject(message)) fail('data', `an object in ${place}`, kindOf(message), cure)
    const { role, content } = message
    if (typeof role !== 'string') fail('data', `a string in field "role" of ${place}`, kindOf(role), cure)
    if (typeof content !== 'string') fail('data', `a string in field "content" of ${place}`, kindOf(content), cure)
    return { role, content }
  })
}

function messagePair(fields: Fields, at: Location): RawRow | null {
  const chosen = messageList(fields, 'chosen', at)
  const rejected = messageList(fields, 'rejected', at)
  // Each side keeps at least one message of its own: the answer.
  const limit = Math.min(chosen.length, rejected.length) - 1
  let shared = 0
  while (shared < limit && sameMessage(chosen[shared]!, rejected[shared]!)) shared++
  const before = Array.isArray(fields['prompt'])
    ? messageList(fields, 'prompt', at)
    : shared === 0 && typeof fields['prompt'] === 'string'
      ? [{ role: 'user', content: fields['prompt'] }]
      : []
  const prompt = [...before, ...chosen.slice(0, shared)]
  if (prompt.length === 0) return null
  return { kind: 'messagePreference', prompt, chosen: chosen.slice(shared), rejected: rejected.slice(shared), ...parseJudgement(fields, at), at }
}

/** With a prompt of messages each response is a list of messages, or the assistant's as a text. */
function rankingRow(fields: Fields, at: Location): RawRow {
  const { order, ranks } = parseRanks(fields, at)
  const responses = fields['responses'] as unknown[]
  // named one by one, so that an error says which response it is about
  const named = Object.fromEntries(responses.map((response, i) => [`responses.${i}`, response]))
  if (!Array.isArray(fields['prompt'])) {
    const prompt = textField(fields, 'prompt', at)
    return { kind: 'ranking', prompt, responses: order.map((i) => textField(named, `responses.${i}`, at)), ranks, at }
  }
  const answer = (i: number): Message[] => (typeof responses[i] === 'string' ? [{ role: 'assistant', content: responses[i] }] : messageList(named, `responses.${i}`, at))
  return { kind: 'messageRanking', prompt: messageList(fields, 'prompt', at), responses: order.map(answer), ranks, at }
}

function sameMessage(a: Message, b: Message): boolean {
  return a.role === b.role && a.content === b.content
}

function idsRow(fields: Fields, at: Location): RawRow {
  const ids = idList(fields['input_ids'], 'input_ids', 0, at)
  if (ids.length === 0) {
    fail('data', `at least one token id in field "input_ids" of ${describe(at)}`, 'an empty list', 'to leave the row out')
  }
  if (fields['labels'] === undefined || fields['labels'] === null) return { kind: 'ids', ids, labels: null, at }
  const labels = idList(fields['labels'], 'labels', uncounted, at)
  if (labels.length !== ids.length) {
    fail(
      'data',
      `as many "labels" as "input_ids" (${ids.length}) in ${describe(at)}`,
      String(labels.length),
      'labels at the same positions as input_ids, -100 where a token does not count',
    )
  }
  const wrong = labels.findIndex((label, position) => label !== uncounted && label !== ids[position])
  if (wrong >= 0) {
    fail(
      'data',
      `the label ${ids[wrong]} (the id at the same place) or -100 at position ${wrong} of ${describe(at)}`,
      String(labels[wrong]),
      'labels that are not shifted: the shift by one happens inside, as in transformers',
    )
  }
  return { kind: 'ids', ids, labels, at }
}

function idList(value: unknown, name: string, smallest: number, at: Location): Int32Array {
  if (!Array.isArray(value)) {
    fail(
      'data',
      `a list of token ids in field "${name}" of ${describe(at)}`,
      kindOf(value),
      'a list of whole numbers such as [2, 41, 7]',
    )
  }
  const wrong = value.findIndex((id: unknown) => {
    if (typeof id !== 'number' || !Number.isInteger(id)) return true
    return id > maxId || (id < 0 && id !== smallest)
  })
  if (wrong >= 0) {
    const found: unknown = value[wrong]
    fail(
      'data',
      `a token id (a whole number from 0) at position ${wrong} of field "${name}" of ${describe(at)}`,
      typeof found === 'number' ? String(found) : kindOf(found),
      'to tokenise the row again',
    )
  }
  return Int32Array.from(value as number[])
}
