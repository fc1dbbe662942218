/** What a row says of its answers beside their texts: ranks of several, a margin between two, or that both are alike. */
import { fail } from '../base/errors.js'
import { kindOf } from '../base/json.js'
import type { Judgement, Location } from './records.js'
import { describe } from './records.js'

type Fields = Readonly<Record<string, unknown>>

/** As a number, also where a CSV file holds it as text. */
function number(value: unknown): number | null {
  const parsed = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  return typeof parsed === 'number' && Number.isFinite(parsed) ? parsed : null
}

const shown = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? JSON.stringify(value) : kindOf(value))

/** `margin`, `tie: true` and `label: "tie"` of a row with two answers; any other label has no meaning here. */
export function parseJudgement({ margin = null, tie = null, label }: Fields, at: Location): Judgement {
  if (tie !== null && ![true, false, 'true', 'false'].includes(tie as boolean))
    fail('data', `true or false in field "tie" of ${describe(at)}`, shown(tie), 'to leave it out where one answer is better')
  const alike = tie === true || tie === 'true' || label === 'tie'
  const difference = margin === null ? 0 : (number(margin) ?? fail('data', `a number in field "margin" of ${describe(at)}`, shown(margin), 'how much better the chosen answer is, in units of the score'))
  if (alike && difference !== 0) fail('data', `no margin between answers that are alike in ${describe(at)}`, `a tie with the margin ${difference}`, 'to leave out one of the two')
  return { ...(difference !== 0 && { margin: difference }), ...(alike && { tie: true }) }
}

/** The places of `responses`, best first (of equal ones the first one named), and their ranks from 0 without gaps. */
export function parseRanks({ responses, ranking }: Fields, at: Location): { order: number[]; ranks: number[] } {
  const cure = 'rows such as {"prompt": "...", "responses": ["a", "b", "c"], "ranking": [2, 1, 2]}, where 1 is the best and equal ranks are ties'
  if (!Array.isArray(responses) || responses.length < 2)
    fail('data', `a list of at least two answers in field "responses" of ${describe(at)}`, Array.isArray(responses) ? `a list of ${responses.length}` : kindOf(responses), cure)
  if (!Array.isArray(ranking)) fail('data', `a list of ranks in field "ranking" of ${describe(at)}`, kindOf(ranking), cure)
  if (ranking.length !== responses.length) fail('data', `as many ranks in "ranking" as "responses" (${responses.length}) in ${describe(at)}`, String(ranking.length), cure)
  const given = ranking.map((rank: unknown, i) => number(rank) ?? fail('data', `a number at position ${i} of field "ranking" of ${describe(at)}`, shown(rank), cure))
  const levels = [...new Set(given)].sort((a, b) => a - b)
  const order = Array.from(given.keys()).sort((a, b) => given[a]! - given[b]!)
  return { order, ranks: order.map((i) => levels.indexOf(given[i]!)) }
}
