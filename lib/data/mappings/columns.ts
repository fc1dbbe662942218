/** `--columns prompt=question,chosen=best,rejected=worst`: a mapping in one line. */
import { fail } from '../../base/errors.js'
import { kindOf } from '../../base/json.js'
import { describe } from '../records.js'
import type { FieldRow, Mapping } from './mapping.js'
import { messagesAt, numberAt, textAt, valueAt } from './mapping.js'
import { ratedAnswers } from './ratings.js'

const targets = ['prompt', 'chosen', 'rejected', 'margin', 'tie', 'label', 'responses', 'ranking', 'response', 'text', 'messages', 'rating', 'input_ids', 'labels', 'seed'] as const
type Target = (typeof targets)[number]

const isTarget = (name: string): name is Target => (targets as readonly string[]).includes(name)

/** Reads the option's value. Errors: anything but field=column pairs, a field that no shape has. */
function pairsOf(text: string): Map<Target, string> {
  const pairs = new Map<Target, string>()
  for (const part of text.split(',')) {
    const [name = '', path = '', more] = part.split('=').map((word) => word.trim())
    if (path === '' || more !== undefined) fail('--columns', 'pairs field=column with commas between them', JSON.stringify(text), '--columns prompt=question,response=answer')
    if (!isTarget(name)) fail('--columns', `one of the fields ${targets.join(', ')} before "="`, JSON.stringify(name), '--columns prompt=question,response=answer')
    if (pairs.has(name)) fail('--columns', `each field once`, `"${name}" twice`, '--columns prompt=question,response=answer')
    pairs.set(name, path)
  }
  return pairs
}

function valueFor(row: FieldRow, target: Target, path: string): unknown {
  const value = valueAt(row.fields, path)
  // checked where it is used, and a row may be without one
  if (target === 'seed' || target === 'margin' || target === 'tie' || target === 'label') return value
  if (value === undefined || value === null) {
    const fields = Object.keys(row.fields).map((name) => JSON.stringify(name))
    fail('data', `a field "${path}" for ${target} in ${describe(row.at)}`, value === null ? 'null' : `the fields ${fields.join(', ') || 'none'}`, '--columns with names that every row has')
  }
  if (target === 'responses' || target === 'ranking') return value
  if (target === 'messages' || (Array.isArray(value) && target !== 'input_ids' && target !== 'labels' && target !== 'text')) return messagesAt(row, path)
  if (target === 'rating') return numberAt(row, path)
  if (target !== 'input_ids' && target !== 'labels') return textAt(row, path)
  if (!Array.isArray(value)) fail('data', `a list of token ids in field "${path}" of ${describe(row.at)}`, kindOf(value), 'a list of whole numbers such as [2, 41, 7]')
  return value
}

/** A mapping of the user's own; it takes the place of any built-in one. */
export function columnsMapping(text: string): Mapping {
  const pairs = pairsOf(text)
  // a path, its first part, and a field that is named like the whole path
  const columns = [...new Set([...pairs.values()].flatMap((path) => [path, path.split('.')[0]!]))]
  const described = { name: '--columns', sets: [], columns }
  const [prompt, response, rating] = [pairs.get('prompt'), pairs.get('response'), pairs.get('rating')]
  if (rating !== undefined) {
    if (prompt === undefined || response === undefined || pairs.size > 3) fail('--columns', 'prompt, response and rating together', JSON.stringify(text), '--columns prompt=question,response=answer,rating=score')
    return { ...described, ...ratedAnswers({ prompt, response, rating }) }
  }
  return { ...described, row: (row) => Object.fromEntries([...pairs].map(([target, path]) => [target, valueFor(row, target, path)])) }
}
