// Two answers to one prompt, as `threefold label` shows them, and a label as it stands in a file.
//
//   left, right: {prompt, chosen, rejected, choice, labeler, ...}          chosen is the side that was chosen
//   tie:         {prompt, chosen, rejected, tie: true, choice, ...}        chosen stood on the left
//   skip, both-bad: {prompt, responses: [left, right], choice, ...}        readers of pairs count it and go on
import { createHash } from 'node:crypto'

import { fail } from '../base/errors.js'
import { isJsonObject, kindOf } from '../base/json.js'
import { randomPurpose, streamNumber, uniform } from '../base/random.js'
import { dataFiles } from '../data/folders.js'
import { needFormat } from '../data/formats/formats.js'
import type { ParsedRow } from '../data/formats/parsed.js'
import type { Location } from '../data/records.js'
import { describe } from '../data/records.js'
import { parseRow } from '../data/rowShapes.js'
import type { PromptText } from './promptText.js'

export const choices = ['left', 'right', 'tie', 'skip', 'both-bad'] as const
export type Choice = (typeof choices)[number]

export interface LabelItem {
  prompt: PromptText
  /** In the order of the row. */
  answers: [PromptText, PromptText]
  /** The same for the same prompt and answers, whatever their order. */
  key: string
  at: Location
}

/** One line of a file of labels, beside what stands at the head of this file. */
export interface LabelFacts {
  choice: Choice
  labeler: string
  /** Places in the row's own order of the answers on the left and on the right. */
  order: [number, number]
  /** File and line of the row that was labelled. */
  source: string
  /** ISO 8601. */
  time: string
}

export type LabelRow = LabelFacts & { prompt: PromptText } & ({ chosen: PromptText; rejected: PromptText; tie?: true } | { responses: [PromptText, PromptText] })

/**
 * The different items of a file or folder, in its order; `same`: rows left out because their two answers are one. Errors name file, line and
 * field; no row with two answers.
 */
export async function readLabelItems(input: string): Promise<{ items: LabelItem[]; same: number }> {
  const items = new Map<string, LabelItem>()
  let same = 0
  for (const file of (await dataFiles(input)).train)
    for await (const row of needFormat(file).rows(file, null)) {
      const item = labelItem(row)
      if (JSON.stringify(item.answers[0]) === JSON.stringify(item.answers[1])) same++
      else if (!items.has(item.key)) items.set(item.key, item)
    }
  if (items.size === 0) fail('label', `rows with two different answers in ${input}`, same > 0 ? `${same} with twice the same` : 'none', 'rows {prompt, responses: ["...", "..."]} or {prompt, chosen, rejected}')
  return { items: [...items.values()], same }
}

/** One row as an item. Errors: no two answers, no prompt. */
export function labelItem({ value, at }: ParsedRow): LabelItem {
  const row = parseRow(isJsonObject(value) && value['responses'] !== undefined ? asPair(value, at) : value, at)
  if (row?.kind !== 'preference' && row?.kind !== 'messagePreference')
    fail('label', `a prompt and two answers in ${describe(at)}`, row === null ? 'two texts that share no prompt' : 'a row of another shape', 'rows {prompt, responses: ["...", "..."]} or {prompt, chosen, rejected}')
  const answers: [PromptText, PromptText] = [row.chosen, row.rejected]
  return { prompt: row.prompt, answers, key: JSON.stringify([row.prompt, ...answers.map((a) => JSON.stringify(a)).sort()]), at }
}

/** {prompt, responses} as {prompt, chosen, rejected}; text that answers a conversation becomes a message of it. */
function asPair({ prompt, responses }: Record<string, unknown>, at: Location): Record<string, unknown> {
  const wrong = (received: string): never => fail('label', `two answers, texts or lists of messages, in field "responses" of ${describe(at)}`, received, 'rows {prompt, responses: ["...", "..."]}')
  if (!Array.isArray(responses)) return wrong(kindOf(responses))
  if (responses.length !== 2) return wrong(`${responses.length} of them${responses.length === 1 ? '; eval writes two with --against' : ''}`)
  for (const answer of responses as unknown[]) if (typeof answer !== 'string' && !Array.isArray(answer)) return wrong(kindOf(answer))
  const [chosen, rejected] = (responses as (string | unknown[])[]).map((answer) => (Array.isArray(prompt) && typeof answer === 'string' ? [{ role: 'assistant', content: answer }] : answer))
  return { prompt, chosen, rejected }
}

/** Whether the second answer of the row stands on the left. Labelers see orders of their own, so that a lean to one side is none they share. */
export function secondOnLeft({ key }: LabelItem, labeler: string, seed: number): boolean {
  const index = createHash('sha256').update(JSON.stringify([labeler, key])).digest().readUInt32LE(0)
  return uniform(seed, streamNumber(randomPurpose.sides, index), 0) < 0.5
}

/** The line of a choice. */
export function labelRow(item: LabelItem, choice: Choice, labeler: string, swapped: boolean, time: Date): LabelRow {
  const order: [number, number] = swapped ? [1, 0] : [0, 1]
  const [left, right] = [item.answers[order[0]]!, item.answers[order[1]]!]
  const facts = { choice, labeler, order, source: describe(item.at), time: time.toISOString() }
  if (choice === 'skip' || choice === 'both-bad') return { prompt: item.prompt, responses: [left, right], ...facts }
  const [chosen, rejected] = choice === 'right' ? [right, left] : [left, right]
  return { prompt: item.prompt, chosen, rejected, ...(choice === 'tie' && { tie: true as const }), ...facts }
}

/** A label that was read back: who chose what of which item. */
export interface KnownLabel {
  key: string
  labeler: string
  choice: Choice
  /** The preferred answer as JSON; null for ties and what was left open. */
  preferred: string | null
  answers: [PromptText, PromptText]
}

/** Errors: a line that no label is. */
export function knownLabel(row: ParsedRow): KnownLabel {
  const { value, at } = row
  const { labeler, choice } = isJsonObject(value) ? value : {}
  if (typeof labeler !== 'string' || !choices.includes(choice as Choice))
    fail('label', `a label with "labeler" and "choice" (${choices.join(', ')}) in ${describe(at)}`, isJsonObject(value) ? `the fields ${Object.keys(value).map((name) => JSON.stringify(name)).join(', ') || 'none'}` : kindOf(value), 'a file that threefold label wrote, or another --output')
  const { key, answers } = labelItem(row)
  return { key, labeler, choice: choice as Choice, preferred: choice === 'left' || choice === 'right' ? JSON.stringify(answers[0]) : null, answers }
}
