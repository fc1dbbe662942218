/**
 * JSON with an error that points at the place. JSON.parse names no position for half of its errors, so the text is
 * scanned a second time, only after it failed.
 */

/** What a scanner at a position may still see. */
type Expecting = 'value' | 'valueOrEnd' | 'key' | 'keyOrEnd' | 'colon' | 'commaOrEnd'

const whitespace = /[ \t\n\r]*/y
const scalar = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.+-])/y
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y

const wording: Record<Expecting, string> = {
  value: 'a value',
  valueOrEnd: 'a value or "]"',
  key: 'a field name in double quotes',
  keyOrEnd: 'a field name in double quotes or "}"',
  colon: '":"',
  commaOrEnd: '"," or the closing bracket',
}

/** Where JSON text stops being JSON: offset in characters, 1-based line and column, and what should stand there. */
export interface JsonErrorPlace {
  readonly offset: number
  readonly line: number
  readonly column: number
  readonly expected: string
}

/** The place of the first syntax error, or null when the text is well-formed JSON. */
export function findJsonError(text: string): JsonErrorPlace | null {
  const open: ('{' | '[')[] = []
  let expecting: Expecting = 'value'
  let offset = 0
  const take = (pattern: RegExp): boolean => {
    pattern.lastIndex = offset
    if (!pattern.test(text)) return false
    offset = pattern.lastIndex
    return true
  }
  for (;;) {
    take(whitespace)
    const character = text[offset]
    let valueEnded = false
    if ((expecting === 'value' || expecting === 'valueOrEnd') && (character === '{' || character === '[')) {
      open.push(character)
      expecting = character === '{' ? 'keyOrEnd' : 'valueOrEnd'
      offset++
    } else if ((expecting === 'value' || expecting === 'valueOrEnd') && (take(scalar) || take(string))) {
      valueEnded = true
    } else if ((expecting === 'key' || expecting === 'keyOrEnd') && take(string)) {
      expecting = 'colon'
    } else if (expecting === 'colon' && character === ':') {
      expecting = 'value'
      offset++
    } else if (expecting === 'commaOrEnd' && character === ',') {
      expecting = open.at(-1) === '{' ? 'key' : 'value'
      offset++
    } else if (closes(expecting, character, open.at(-1))) {
      open.pop()
      offset++
      valueEnded = true
    } else {
      return place(text, offset, wording[expecting])
    }
    if (!valueEnded) continue
    expecting = 'commaOrEnd'
    if (open.length === 0) {
      take(whitespace)
      return offset === text.length ? null : place(text, offset, 'nothing after the value')
    }
  }
}

function closes(expecting: Expecting, character: string | undefined, opener: '{' | '[' | undefined): boolean {
  if (character === '}') return opener === '{' && (expecting === 'keyOrEnd' || expecting === 'commaOrEnd')
  if (character === ']') return opener === '[' && (expecting === 'valueOrEnd' || expecting === 'commaOrEnd')
  return false
}

function place(text: string, offset: number, expected: string): JsonErrorPlace {
  const before = text.slice(0, offset)
  const line = before.split('\n').length
  return { offset, line, column: offset - (before.lastIndexOf('\n') + 1) + 1, expected }
}

/** A few characters of the text from an offset on, for an error message; "the end of the text" where nothing is left. */
export function excerpt(text: string, offset: number): string {
  if (offset >= text.length) return 'the end of the text'
  const piece = text.slice(offset, offset + 24)
  return JSON.stringify(piece) + (offset + 24 < text.length ? '...' : '')
}

/** "a string", "an array", "null": the kind of a parsed JSON value, with its article, for error messages. */
export function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** True for a parsed JSON object (neither null nor an array). */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text of each value of a JSON object, which has to be well-formed. Of a name that stands twice the last one counts. */
export function objectMembers(text: string): Map<string, string> {
  const members = new Map<string, string>()
  const take = (pattern: RegExp, at: number): number => {
    pattern.lastIndex = at
    return pattern.test(text) ? pattern.lastIndex : at
  }
  let at = take(whitespace, text.indexOf('{') + 1)
  while (text[at] === '"') {
    const keyEnd = take(string, at)
    const name = JSON.parse(text.slice(at, keyEnd)) as string
    const start = take(whitespace, take(whitespace, keyEnd) + 1)
    let end = start
    let depth = 0
    for (; depth > 0 || (text[end] !== ',' && text[end] !== '}'); end++) {
      const character = text[end]
      if (character === '"') end = take(string, end) - 1
      else if (character === '{' || character === '[') depth++
      else if (character === '}' || character === ']') depth--
    }
    members.set(name, text.slice(start, end).trimEnd())
    at = text[end] === ',' ? take(whitespace, end + 1) : end
  }
  return members
}
