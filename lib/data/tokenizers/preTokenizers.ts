/** "pre_tokenizer" of a tokenizer.json: cuts a text into the words the model sees. As `tokenizers` does it. */
import type { StretchStart } from './addedTokens.js'
import type { CodePointSet } from './codePoints.js'
import { bertPunctuation, isLowSurrogate, numeric, rustWord, whiteSpace } from './codePoints.js'
import { toByteCharacters } from './byteCharacters.js'
import type { Behavior, EachPiece, Pattern } from './pattern.js'
import { cut, readBehavior, readPattern, regexPattern } from './pattern.js'
import type { Place } from './place.js'

/** Takes the word text[from, to). */
export type TakeWord = (text: string, from: number, to: number) => void

/** Cuts a stretch between added tokens. */
export type CutWords = (text: string, start: StretchStart) => void

export interface PreTokenizer {
  /** True where words are to be read as bytes: the model's vocabulary holds GPT-2's characters for them. */
  readonly bytes: boolean
  /** Words go to `take` in order. */
  cutter(take: TakeWord): CutWords
}

/** One step: cuts a piece and hands on the parts, of this text or of a changed one. */
type Step = (hand: (text: string, from: number, to: number) => void) => CutWords

/** GPT-2's own pattern, built into the pre-tokenizer ByteLevel. */
export const byteLevelPattern = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

/** Errors name the field. */
export function readPreTokenizer(place: Place): PreTokenizer {
  const leaves = flat(place)
  const bytes = leaves.at(-1)?.field('type').value === 'ByteLevel'
  const steps = leaves.flatMap((leaf, index) => readStep(leaf, index === leaves.length - 1))
  return {
    bytes,
    cutter(take) {
      const whole: CutWords = (text) => {
        if (text !== '') take(text, 0, text.length)
      }
      return steps.reduceRight<CutWords>((next, step, index) => {
        // The last step hands its parts to the model without making strings of them.
        if (index === steps.length - 1) return step(take)
        let begins: StretchStart = 'text'
        const cutPart = step((text, from, to) => next(text.slice(from, to), from === 0 ? begins : 'token'))
        return (text, start) => {
          begins = start
          cutPart(text, start)
        }
      }, whole)
    },
  }
}

/** Sequences, and sequences in them, as one list. */
function flat(place: Place): Place[] {
  if (place.isMissing) return []
  if (place.field('type').string() !== 'Sequence') return [place]
  return place.field('pretokenizers').items().flatMap(flat)
}

function readStep(place: Place, last: boolean): Step[] {
  switch (place.field('type').value) {
    case 'ByteLevel':
      return byteLevel(place, last)
    case 'Split': {
      const pattern = readPattern(place.field('pattern'))
      const behavior = readBehavior(place.field('behavior'))
      const invert = place.field('invert').booleanOr(false)
      return [atMatches(pattern, behavior, invert)]
    }
    case 'Metaspace':
      return [metaspace(place)]
    case 'Whitespace':
      return [cutting(wordsAndSigns)]
    case 'WhitespaceSplit':
      return [atCharacters(() => whiteSpace, 'Removed')]
    case 'BertPreTokenizer':
      return [atCharacters(() => whiteSpace, 'Removed'), atCharacters(bertPunctuation, 'Isolated')]
    case 'Punctuation':
      return [atCharacters(bertPunctuation, readBehavior(place.field('behavior'), 'Isolated'))]
    case 'Digits':
      return [atCharacters(numeric, place.field('individual_digits').booleanOr(false) ? 'Isolated' : 'Contiguous')]
    case 'CharDelimiterSplit':
      return [atMatches(readPattern(place.field('delimiter')), 'Removed', false)]
    case 'FixedLength':
      return [fixedLength(Math.max(1, place.field('length').countOr(5)))]
  }
  return place.field('type').fail('a pre-tokenizer that is known')
}

function atMatches(pattern: Pattern, behavior: Behavior, invert: boolean): Step {
  return cutting((text, each) => {
    const count = pattern.find(text)
    cut(text.length, pattern.ends, count, behavior, invert, each)
  })
}

function cutting(pieces: (text: string, each: EachPiece) => void): Step {
  return (hand) => (text) => pieces(text, (from, to) => hand(text, from, to))
}

/** Cuts at each character of a set. */
function atCharacters(set: () => CodePointSet, behavior: Behavior): Step {
  return cutting((text, each) => {
    const members = set()
    const ends: number[] = []
    for (let i = 0; i < text.length; ) {
      const point = text.codePointAt(i)!
      const end = i + (point > 0xffff ? 2 : 1)
      if (members.has(point)) ends.push(i, end)
      i = end
    }
    cut(text.length, Int32Array.from(ends), ends.length, behavior, false, each)
  })
}

/** Runs of word characters and runs of anything else but white space. */
function wordsAndSigns(text: string, each: EachPiece): void {
  const word = rustWord()
  let start = 0
  let last = 0
  for (let i = 0; i <= text.length; ) {
    const point = i < text.length ? text.codePointAt(i)! : -1
    const kind = point < 0 || whiteSpace.has(point) ? 0 : word.has(point) ? 1 : 2
    if (kind !== last) {
      if (last !== 0) each(start, i)
      start = i
      last = kind
    }
    i += point > 0xffff ? 2 : 1
  }
}

function fixedLength(length: number): Step {
  return cutting((text, each) => {
    for (let from = 0; from < text.length; ) {
      let to = from
      for (let i = 0; i < length && to < text.length; i++) to += to + 1 < text.length && isLowSurrogate(text.charCodeAt(to + 1)) ? 2 : 1
      each(from, to)
      from = to
    }
  })
}

function byteLevel(place: Place, last: boolean): Step[] {
  const addSpace = place.field('add_prefix_space').booleanOr(true)
  const pattern = place.field('use_regex').booleanOr(true) ? regexPattern(byteLevelPattern, place) : null
  const step: Step = (hand) => (text, start) => {
    const spaced = addSpace && start !== 'joined' && !text.startsWith(' ') ? ` ${text}` : text
    if (pattern === null) {
      if (spaced !== '') hand(spaced, 0, spaced.length)
      return
    }
    const count = pattern.find(spaced)
    cut(spaced.length, pattern.ends, count, 'Isolated', false, (from, to) => hand(spaced, from, to))
  }
  if (last) return [step]
  const mapped: Step = (hand) => (text) => {
    const characters = toByteCharacters(text)
    hand(characters, 0, characters.length)
  }
  return [step, mapped]
}

function metaspace(place: Place): Step {
  const mark = place.field('replacement').characterOr('▁')
  const old = place.field('add_prefix_space')
  const scheme = place.field('prepend_scheme').stringOr(old.booleanOr(true) ? 'always' : 'never')
  if (!['always', 'first', 'never'].includes(scheme)) place.field('prepend_scheme').fail('always, first or never')
  if (old.value === false && scheme !== 'never') old.fail('true beside this prepend_scheme')
  const split = place.field('split').booleanOr(true)
  return (hand) => (given, start) => {
    let text = given.replaceAll(' ', () => mark)
    const prepends = scheme === 'always' ? start !== 'joined' : scheme === 'first' && start === 'text'
    if (prepends && text !== '' && !text.startsWith(mark)) text = mark + text
    if (!split) {
      if (text !== '') hand(text, 0, text.length)
      return
    }
    // Every mark begins a new word.
    let from = 0
    for (let at = text.indexOf(mark, text.startsWith(mark) ? mark.length : 0); at >= 0; at = text.indexOf(mark, at + mark.length)) {
      if (at > from) hand(text, from, at)
      from = at
    }
    if (from < text.length) hand(text, from, text.length)
  }
}
