/** How the rows of a known set become rows of a shape that is understood. A set is described by data: names, columns, a function. */
import { fail } from '../../base/errors.js'
import { isJsonObject, kindOf } from '../../base/json.js'
import type { SplitNames } from '../folders.js'
import type { Location, Message } from '../records.js'
import { describe } from '../records.js'

export type Fields = Record<string, unknown>

/** One row of a file, an object. */
export interface FieldRow {
  readonly fields: Fields
  readonly at: Location
}

/** A row in a shape that is understood, or null where it holds no prompt or no answer. */
export type Shaped = Fields | null

interface Described {
  /** As messages and the documentation name it. */
  readonly name: string
  /** Names a data path may have: a hub id, or a name of its own. */
  readonly sets: readonly string[]
  /** Where on the hub a name of its own is found. */
  readonly repo?: string
  /** Top-level columns that it looks at. */
  readonly columns: readonly string[]
  /** Columns that tell it without a name; absent where they would fit other sets too. */
  readonly signature?: readonly string[]
  readonly splits?: SplitNames
}

/** Each row stands for itself. */
export interface RowMapping extends Described {
  readonly row: (row: FieldRow) => Shaped
}

/** Rows that follow each other and belong together: answers to one prompt, messages of one tree. */
export interface GroupMapping extends Described {
  /** Rows with the same key are one group; `before` is the key of the row before. */
  readonly key: (row: FieldRow, before: unknown) => unknown
  /** `pairs`: preferences (pairs or rankings) are wanted, else conversations or answers. An empty list where the group gives none. */
  readonly group: (rows: readonly FieldRow[], pairs: boolean) => readonly (readonly [Shaped, Location])[]
}

export type Mapping = RowMapping | GroupMapping

/**
 * The value at a path: "question", "data.question", "answers.0.text". A field that is named like the whole path goes
 * first. Undefined where a part is not there.
 */
export function valueAt(fields: Fields, path: string): unknown {
  if (Object.hasOwn(fields, path)) return fields[path]
  let value: unknown = fields
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Fields)[part]
  }
  return value
}

/** The text at a path; null where it is absent. Errors: anything else, naming field, file and line. */
export function textAt({ fields, at }: FieldRow, path: string): string | null {
  const value = valueAt(fields, path)
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return value
  fail('data', `a string in field "${path}" of ${describe(at)}`, kindOf(value), `to write the field "${path}" as text, or --columns with the names of this set`)
}

/** The number at a path, also where a CSV file holds it as text. */
export function numberAt({ fields, at }: FieldRow, path: string): number {
  const value = valueAt(fields, path)
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof number === 'number' && Number.isFinite(number)) return number
  fail('data', `a number in field "${path}" of ${describe(at)}`, typeof value === 'string' ? JSON.stringify(value) : kindOf(value), `to write the field "${path}" as a number`)
}

/** Fills a shape with texts; null where one of them is absent. */
export function shaped(texts: Readonly<Record<string, string | null>>): Shaped {
  return Object.values(texts).includes(null) ? null : { ...texts }
}

const roles: Readonly<Record<string, string>> = { human: 'user', user: 'user', prompter: 'user', gpt: 'assistant', chatgpt: 'assistant', assistant: 'assistant', bot: 'assistant', model: 'assistant', system: 'system' }

/** The role of chat templates for what sets call it; an unknown one stays. */
export const roleOf = (name: string): string => (Object.hasOwn(roles, name) ? roles[name]! : name)

/** A list of {role, content}, or of {from, value} as ShareGPT has it. Errors name field, file, line and message. */
export function messagesAt({ fields, at }: FieldRow, path: string): Message[] | null {
  const list = valueAt(fields, path)
  const cure = 'a list such as [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}], or of {role, content}'
  if (list === undefined || list === null) return null
  if (!Array.isArray(list)) fail('data', `a list of messages in field "${path}" of ${describe(at)}`, kindOf(list), cure)
  return list.map((message: unknown, i) => {
    const place = `"${path}" message ${i + 1} of ${describe(at)}`
    if (!isJsonObject(message)) fail('data', `an object in ${place}`, kindOf(message), cure)
    const role = message['role'] ?? message['from']
    const content = message['content'] ?? message['value']
    if (typeof role !== 'string') fail('data', `a string in field "${'role' in message ? 'role' : 'from'}" of ${place}`, kindOf(role), cure)
    if (typeof content !== 'string') fail('data', `a string in field "${'content' in message ? 'content' : 'value'}" of ${place}`, kindOf(content), cure)
    return { role: roleOf(role), content }
  })
}
