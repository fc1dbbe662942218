/** Rows of tokens to look at: one row token by token, and what is odd about many. */
import type { TokenRow } from './records.js'
import { TokenStream } from './tokenStream.js'
import type { Tokenizer } from './tokenizer.js'

/** Above this share of unknown tokens the tokenizer is probably not the model's. */
const unknownShare = 0.01

/**
 * A line for each token: position, id, "*" where it counts in the loss, the token as the vocabulary has it, and the text
 * it adds. A character spread over several tokens stands beside the last of them.
 */
export function inspectRow(row: TokenRow, tokenizer: Tokenizer): string {
  const stream = new TokenStream(tokenizer, { skipSpecial: false })
  const last = row.ids.length - 1
  const cells = Array.from(row.ids, (id, position) => {
    const text = stream.push(id) + (position === last ? stream.end() : '')
    return [String(position), String(id), row.counted[position] === 1 ? '*' : '', visible(tokenizer.tokenOf(id) ?? ''), visible(text)]
  })
  const table = [['position', 'id', 'counts', 'token', 'text'], ...cells]
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)))
  const lines = table.map((line) => line.map((cell, column) => (column < 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd())
  const counted = row.counted.reduce((sum, value) => sum + value, 0)
  return [`${row.ids.length} tokens, ${counted} count in the loss`, ...lines].join('\n')
}

/** In quotes, with everything that cannot be seen written as an escape. */
function visible(text: string): string {
  return JSON.stringify(text).replaceAll(/[\p{C}\p{Z}\p{M}\ufeff]/gu, (character) => (character === ' ' ? character : escaped(character)))
}

/** "\r" -> "\u000d" */
export function escaped(character: string): string {
  const point = character.codePointAt(0)!
  return point > 0xffff ? `\\u{${point.toString(16)}}` : `\\u${point.toString(16).padStart(4, '0')}`
}

/**
 * What is odd about rows for training, as sentences: a start token twice, a mask that counts everything or nothing,
 * answers without an end token, unknown tokens. Empty where nothing is.
 */
export function rowWarnings(rows: readonly TokenRow[], tokenizer: Tokenizer): string[] {
  const { bosId, eosIds, unknownId } = tokenizer
  const name = (id: number): string => JSON.stringify(tokenizer.tokenOf(id) ?? String(id))
  const checks: readonly (readonly [(row: TokenRow) => boolean, string])[] = [
    [
      ({ ids }) => bosId !== null && ids.length > 1 && ids[0] === bosId && ids[1] === bosId,
      `with the start token ${bosId === null ? '' : name(bosId)} twice: the text or the chat template writes what the tokenizer adds`,
    ],
    [({ counted }) => counted.length > 1 && counted.every((value, t) => value === (t === 0 ? 0 : 1)), 'of which every token counts: no prompt is told from an answer'],
    [({ counted }) => !counted.includes(1), 'of which no token counts: they teach nothing'],
    [
      (row) => eosIds.length > 0 && answersWithoutEnd(row, tokenizer),
      `with an answer that has no end token (${eosIds.map(name).join(', ')}): the model learns no place to stop`,
    ],
  ]
  const warnings = checks.flatMap(([isOdd, words]) => {
    const odd = rows.flatMap((row, index) => (isOdd(row) ? [index + 1] : []))
    return odd.length === 0 ? [] : [`${odd.length} of ${rows.length} rows ${words} (first: row ${odd[0]})`]
  })
  const tokens = rows.reduce((sum, { ids }) => sum + ids.length, 0)
  const unknown = unknownId === null ? 0 : rows.reduce((sum, { ids }) => sum + ids.reduce((n, id) => n + (id === unknownId ? 1 : 0), 0), 0)
  // Some models use one token for all special purposes: then it is no sign.
  const special = unknownId === bosId || (unknownId !== null && eosIds.includes(unknownId))
  if (!special && unknown > unknownShare * tokens) {
    const percent = ((100 * unknown) / tokens).toFixed(1)
    warnings.push(`${unknown} of ${tokens} tokens (${percent} %) are the unknown token ${name(unknownId!)}: the vocabulary does not fit the texts`)
  }
  return warnings
}

/** True where a counted stretch ends without an end token; white space behind it (a template's line end) is no matter. */
function answersWithoutEnd({ ids, counted }: TokenRow, tokenizer: Tokenizer): boolean {
  for (let end = 1; end <= ids.length; end++) {
    if (counted[end - 1] !== 1 || counted[end] === 1) continue
    let last = end - 1
    while (last > 0 && counted[last - 1] === 1 && !tokenizer.eosIds.includes(ids[last]!) && isBlank(tokenizer, ids[last]!)) last--
    if (!tokenizer.eosIds.includes(ids[last]!)) return true
  }
  return false
}

function isBlank(tokenizer: Tokenizer, id: number): boolean {
  return tokenizer.decode([id], { skipSpecial: false }).trim() === ''
}
