/** A "pattern" of a tokenizer.json, {"String": ...} or {"Regex": ...}, and the ways to cut a text at its matches. */
import { fail, ThreefoldError } from '../../base/errors.js'
import type { Place } from './place.js'
import { Regex } from './regex.js'
import { RegexRefused } from './regexSets.js'

export type Behavior = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous'

const behaviors: Readonly<Record<string, Behavior>> = {
  removed: 'Removed',
  isolated: 'Isolated',
  mergedwithprevious: 'MergedWithPrevious',
  mergedwithnext: 'MergedWithNext',
  contiguous: 'Contiguous',
}

export function readBehavior(place: Place, otherwise?: Behavior): Behavior {
  if (place.isMissing && otherwise !== undefined) return otherwise
  return behaviors[place.string().replaceAll('_', '').toLowerCase()] ?? place.fail(`one of ${Object.values(behaviors).join(', ')}`)
}

/** Finds the matches of a pattern: start, end, start, end, ... Returns how many numbers are in `ends`. */
export interface Pattern {
  find(text: string): number
  /** Overwritten by the next find. */
  readonly ends: Int32Array
  replace(text: string, content: string): string
}

/** Long results of one long text are not kept for all that follow. */
const keptEnds = 1 << 16

abstract class Matcher implements Pattern {
  ends: Int32Array = new Int32Array(64)

  abstract search(text: string): number

  find(text: string): number {
    if (this.ends.length > keptEnds) this.ends = new Int32Array(64)
    return this.search(text)
  }

  replace(text: string, content: string): string {
    const count = this.find(text)
    if (count === 0) return text
    checkGrowth(text, (count / 2) * content.length)
    let out = ''
    let end = 0
    for (let i = 0; i < count; i += 2) {
      out += text.slice(end, this.ends[i]!) + content
      end = this.ends[i + 1]!
    }
    return out + text.slice(end)
  }
}

class RegexMatcher extends Matcher {
  readonly #regex: Regex

  constructor(regex: Regex) {
    super()
    this.#regex = regex
  }

  search(text: string): number {
    return this.#regex.findAll(text, this)
  }
}

class StringMatcher extends Matcher {
  readonly #text: string

  constructor(text: string) {
    super()
    this.#text = text
  }

  search(text: string): number {
    let count = 0
    for (let at = text.indexOf(this.#text); at >= 0; at = text.indexOf(this.#text, at + this.#text.length)) {
      if (count + 2 > this.ends.length) {
        const bigger = new Int32Array(this.ends.length * 2)
        bigger.set(this.ends)
        this.ends = bigger
      }
      this.ends[count++] = at
      this.ends[count++] = at + this.#text.length
    }
    return count
  }
}

/** A text may grow this much in one step; a replacement of every letter by a novel would fill the memory. */
const mostGrowth = 16
const freeGrowth = 1 << 20
const largestGrowth = 1 << 24

/** Fails where a text that grows by so many characters is beyond reason. */
export function checkGrowth(text: string, by: number): void {
  if (by <= Math.max(freeGrowth, Math.min(largestGrowth, mostGrowth * text.length))) return
  fail('tokenizer', `a tokenizer that adds at most ${mostGrowth} characters for each of ${text.length}`, `${by} more`, 'the tokenizer.json that came with the model')
}

export function regexPattern(source: string, place: Place): Pattern {
  try {
    return new RegexMatcher(new Regex(source))
  } catch (error) {
    if (error instanceof RegexRefused) return place.fail('a regular expression of the kinds that are known', error.message)
    if (error instanceof ThreefoldError) return place.fail(error.expected, error.received)
    throw error
  }
}

export function readPattern(place: Place): Pattern {
  if (typeof place.value === 'string') return literal(place)
  const regex = place.field('Regex')
  return regex.isMissing ? literal(place.field('String')) : regexPattern(regex.string(), regex)
}

function literal(place: Place): Pattern {
  const text = place.string()
  if (text === '' || /\p{Surrogate}/u.test(text)) place.fail('a text to look for')
  return new StringMatcher(text)
}

/** Called with each piece of a text. */
export type EachPiece = (from: number, to: number) => void

/** Cuts text[0, length) at the matches found; pieces are never empty. */
export function cut(length: number, ends: Int32Array, count: number, behavior: Behavior, invert: boolean, each: EachPiece): void {
  if (behavior === 'Isolated') {
    let end = 0
    for (let i = 0; i < count; i += 2) {
      const from = ends[i]!
      if (from > end) each(end, from)
      end = ends[i + 1]!
      if (end > from) each(from, end)
    }
    if (end < length) each(end, length)
    return
  }
  // What is between matches, and the matches: a "hit" is what the behaviour is about.
  const spans: number[] = []
  const hits: boolean[] = []
  const add = (from: number, to: number, hit: boolean): void => {
    spans.push(from, to)
    hits.push(hit)
  }
  let end = 0
  for (let i = 0; i < count; i += 2) {
    if (ends[i]! > end) add(end, ends[i]!, invert)
    end = ends[i + 1]!
    add(ends[i]!, end, !invert)
  }
  if (end < length) add(end, length, invert)
  for (let i = 0, first = 0; i < hits.length; i++) {
    if (i + 1 < hits.length && staysTogether(behavior, hits[i]!, hits[i + 1]!)) continue
    const [from, to] = [spans[2 * first]!, spans[2 * i + 1]!]
    if (from < to && (behavior !== 'Removed' || !hits[i]!)) each(from, to)
    first = i + 1
  }
}

function staysTogether(behavior: Behavior, hit: boolean, nextHit: boolean): boolean {
  switch (behavior) {
    case 'Contiguous':
      return hit === nextHit
    case 'MergedWithPrevious':
      return nextHit && !hit
    case 'MergedWithNext':
      return hit && !nextHit
    default:
      return false
  }
}
