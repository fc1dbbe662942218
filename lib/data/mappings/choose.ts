/** Which mapping a data set gets, and what it makes of the rows. */
import { fail } from '../../base/errors.js'
import { isJsonObject, kindOf } from '../../base/json.js'
import type { ParsedRow } from '../formats/parsed.js'
import type { Location, RawRow } from '../records.js'
import { describe } from '../records.js'
import { parseRow, understoodFields, understoodShapes } from '../rowShapes.js'
import { conversationMappings } from './conversations.js'
import { deepspeedChatMappings } from './deepspeedChat.js'
import type { FieldRow, GroupMapping, Mapping, Shaped } from './mapping.js'
import { ratingMappings } from './ratings.js'

/** Every built-in mapping; where several fit, the first one counts. */
export const mappings: readonly Mapping[] = [...deepspeedChatMappings, ...conversationMappings, ...ratingMappings]

/** The parts of a path that may name a set: the last three, without the ending of a file. */
function namesIn(target: string): string[] {
  const parts = target.toLowerCase().split(/[/\\]/).filter((part) => part !== '' && part !== '.')
  // datasets--owner--name/snapshots/<commit> is a set in the hub's cache
  const cached = parts.findLast((part) => part.startsWith('datasets--'))
  if (cached !== undefined) return [cached.slice('datasets--'.length).split('--').at(-1)!]
  return parts.slice(-3).map((part) => part.replace(/@.*$|\.(?:jsonl?|csv|parquet)(?:\.gz)?$/, ''))
}

/** The mapping whose set the path names, by hub id or by the last part of one; null where it names none. */
export function mappingByName(target: string): Mapping | null {
  const names = namesIn(target)
  return mappings.find(({ sets }) => sets.some((set) => names.includes(set.toLowerCase().split('/').at(-1)!))) ?? null
}

/** Where on the hub a data path is found: a mapping may have a name of its own ("mkqa-Japanese"). */
export function hubIdOf(target: string): string {
  return mappings.find(({ sets }) => sets.includes(target))?.repo ?? target
}

/** By name where the columns fit it, else by columns that only it has, else none: the rows are in a shape of their own. */
export function chooseMapping(target: string, columns: readonly string[]): Mapping | null {
  const there = new Set(columns)
  const fits = (wanted: readonly string[]): boolean => wanted.every((name) => there.has(name))
  const named = mappingByName(target)
  // columns that a mapping can do without may be missing; those it is told by may not
  if (named !== null && fits(named.signature ?? named.columns)) return named
  return mappings.find(({ signature }) => signature !== undefined && fits(signature)) ?? null
}

/** The columns that will be looked at. */
export const columnsOf = (mapping: Mapping | null): readonly string[] => mapping?.columns ?? understoodFields

function fieldRow({ value, at }: ParsedRow): FieldRow {
  if (isJsonObject(value)) return { fields: value, at }
  fail('data', `a JSON object in ${describe(at)}`, kindOf(value), `one of the row shapes ${understoodShapes}`)
}

const validated = (value: Shaped, at: Location): RawRow | null => (value === null ? null : parseRow(value, at))

/**
 * Parsed rows -> validated rows, or null for each that holds no prompt or no answer. Every row carries its place in the
 * set, which rows of one group share.
 */
export async function* mappedRows(rows: AsyncIterable<ParsedRow>, mapping: Mapping | null, pairs: boolean): AsyncGenerator<RawRow | null> {
  if (mapping !== null && 'group' in mapping) return yield* groupedRows(rows, mapping, pairs)
  let index = 0
  for await (const row of rows) {
    const at = { ...row.at, index: index++ }
    yield mapping === null ? parseRow(row.value, at) : validated(mapping.row(fieldRow({ value: row.value, at })), at)
  }
}

async function* groupedRows(rows: AsyncIterable<ParsedRow>, mapping: GroupMapping, pairs: boolean): AsyncGenerator<RawRow | null> {
  let open: FieldRow[] = []
  let key: unknown = null
  let index = 0
  const close = (): (RawRow | null)[] => {
    const made = mapping.group(open, pairs).map(([value, at]) => validated(value, { ...at, index }))
    open = []
    index++
    return made.length > 0 ? made : [null]
  }
  for await (const parsed of rows) {
    const row = fieldRow(parsed)
    const next = mapping.key(row, key)
    if (open.length > 0 && next !== key) yield* close()
    key = next
    open.push(row)
  }
  if (open.length > 0) yield* close()
}
