/** "normalizer" of a tokenizer.json: what happens to a text before it is cut into words. As `tokenizers` does it. */
import { toByteCharacters } from './byteCharacters.js'
import type { CodePointSet } from './codePoints.js'
import { accents, bertAccents, bertIdeographs, bertRemoved, spaceAtEnd, spaceAtStart, whiteSpace, youngerThanNormalizer } from './codePoints.js'
import { checkGrowth, readPattern } from './pattern.js'
import type { Place } from './place.js'
import { PrecompiledMap } from './precompiled.js'

/** The text has no lone surrogates, before and after. `joined` where it continues another: nothing is put before it. */
export type Normalize = (text: string, joined?: boolean) => string

/** Texts of ASCII alone skip what only changes other characters. */
const ascii = /^[\0-\x7f]*$/

/** The function for a "normalizer"; null for none. Errors name the field. */
export function readNormalizer(place: Place): Normalize | null {
  if (place.isMissing) return null
  const type = place.field('type').string()
  switch (type) {
    case 'Sequence': {
      const steps = place.field('normalizers').items().map(readNormalizer)
      return (text, joined) => steps.reduce((current, step) => (step === null ? current : step(current, joined)), text)
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return (text) => normalForm(text, type)
    case 'Lowercase':
      return lowercase
    case 'StripAccents':
      return (text) => (ascii.test(text) ? text : without(text, accents()))
    case 'Nmt':
      return nmt
    case 'Strip':
      return strip(place.field('strip_left').booleanOr(true), place.field('strip_right').booleanOr(true))
    case 'Prepend': {
      const before = place.field('prepend').string()
      return (text, joined) => {
        if (text === '' || joined === true) return text
        checkGrowth(text, before.length)
        return before + text
      }
    }
    case 'Replace': {
      const pattern = readPattern(place.field('pattern'))
      const content = place.field('content').string()
      // Ours, for models that are read as SentencePiece itself reads them: only at the start of a text.
      const starts = place.field('starts').booleanOr(false)
      return (text, joined) => (starts && joined === true ? text : pattern.replace(text, content))
    }
    case 'ByteLevel':
      return toByteCharacters
    case 'BertNormalizer':
      return bert(place)
    case 'Precompiled':
      return precompiled(place)
  }
  return place.field('type').fail('a normalizer that is known')
}

/** "longest" is ours, for models that are read as SentencePiece itself reads them. */
function precompiled(place: Place): Normalize | null {
  const source = place.field('precompiled_charsmap')
  const base64 = source.stringOr('')
  if (base64 === '') return null
  const map = new PrecompiledMap(Buffer.from(base64, 'base64'), source)
  return place.field('longest').booleanOr(false) ? (text) => map.normalizeLongest(text) : (text) => map.normalize(text)
}

function normalForm(text: string, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): string {
  if (ascii.test(text)) return text
  const younger = youngerThanNormalizer()
  let out = ''
  let start = 0
  // A character that the normalizers of `tokenizers` do not know stays, and nothing moves across it.
  for (let i = 0; i < text.length; ) {
    const point = text.codePointAt(i)!
    const end = i + (point > 0xffff ? 2 : 1)
    if (younger.has(point)) {
      out += text.slice(start, i).normalize(form) + text.slice(i, end)
      start = end
    }
    i = end
  }
  return out + text.slice(start).normalize(form)
}

/** Character by character: a sigma at the end of a word is no other sigma. */
function lowercase(text: string): string {
  if (!text.includes('Σ')) return text.toLowerCase()
  return text.split('Σ').map((part) => part.toLowerCase()).join('σ')
}

function without(text: string, set: CodePointSet): string {
  let out = ''
  for (const character of text) if (!set.has(character.codePointAt(0)!)) out += character
  return out
}

function strip(left: boolean, right: boolean): Normalize {
  return (text) => {
    const start = left ? spaceAtStart(text, 0) : 0
    return text.slice(start, right ? Math.max(start, spaceAtEnd(text, text.length)) : undefined)
  }
}

function nmt(text: string): string {
  return text
    .replaceAll(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g, '')
    .replaceAll(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, ' ')
}

function bert(place: Place): Normalize {
  const clean = place.field('clean_text').booleanOr(true)
  const ideographs = place.field('handle_chinese_chars').booleanOr(true)
  const lower = place.field('lowercase').booleanOr(true)
  const bare = place.field('strip_accents').booleanOr(lower)
  return (given) => {
    let text = given
    if (clean) {
      text = mapped(without(text, bertRemoved()), (character, point) => (whiteSpace.has(point) ? ' ' : character))
    }
    if (ideographs && !ascii.test(text)) {
      text = mapped(text, (character, point) => (bertIdeographs.has(point) ? ` ${character} ` : character))
    }
    if (bare && !ascii.test(text)) text = without(normalForm(text, 'NFD'), bertAccents())
    return lower ? lowercase(text) : text
  }
}

function mapped(text: string, change: (character: string, point: number) => string): string {
  let out = ''
  for (const character of text) out += change(character, character.codePointAt(0)!)
  return out
}
