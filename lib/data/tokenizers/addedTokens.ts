/** Tokens that are found in the text itself, before the model sees it: <s>, <|im_end|>. As `tokenizers` finds them. */
import { rustWord, spaceAtEnd, spaceAtStart, isLowSurrogate } from './codePoints.js'
import { PieceTrie } from './pieceTrie.js'
import type { Normalize } from './normalizers.js'

export interface AddedToken {
  readonly id: number
  readonly content: string
  /** What it is decoded to: normalized as it is looked for. */
  readonly text: string
  /** Not where a letter or digit stands beside it. */
  readonly singleWord: boolean
  /** Takes the white space on its left, on its right. */
  readonly lstrip: boolean
  readonly rstrip: boolean
  /** Looked for in the normalized text, and normalized itself. */
  readonly normalized: boolean
  /** Left out by decode({skipSpecial: true}). */
  readonly special: boolean
}

/** A stretch of plain text, or a token. */
export type TakeStretch = (text: string, from: number, to: number) => void
export type TakeToken = (id: number) => void
/** A normalized stretch, ready for the pre-tokenizer. */
export type TakeWords = (text: string, start: StretchStart) => void

/**
 * What a stretch begins with: the text as a whole; something behind an added token; or it continues a stretch whose ids
 * are there already, and no space is put before it.
 */
export type StretchStart = 'text' | 'token' | 'joined'

/** Finds one kind of added tokens: at each place the longest, from left to right. */
class Finder {
  readonly #trie = new PieceTrie()
  readonly #tokens: readonly AddedToken[]
  /** 1 for the UTF-16 units below 128 that a token begins with. */
  readonly #begins = new Uint8Array(128)
  #beginsBeyond = false
  readonly #ignoreSpecial: boolean

  constructor(tokens: readonly (readonly [text: string, token: AddedToken])[], ignoreSpecial: boolean) {
    this.#ignoreSpecial = ignoreSpecial
    this.#tokens = tokens.map(([, token]) => token)
    // Of two tokens with the same text the first one counts.
    for (const [index, [text]] of Array.from(tokens.entries()).reverse()) {
      this.#trie.add(text, index)
      const unit = text.charCodeAt(0)
      if (unit < 128) this.#begins[unit] = 1
      else this.#beginsBeyond = true
    }
  }

  split(text: string, takeStretch: TakeStretch, takeToken: TakeToken): void {
    let done = 0
    for (let at = 0; at < text.length; ) {
      const unit = text.charCodeAt(at)
      const begins = unit < 128 ? this.#begins[unit] === 1 : this.#beginsBeyond
      let end = -1
      let index = -1
      if (begins) {
        this.#trie.prefixes(text, at, (to, value) => {
          end = to
          index = value
        })
      }
      if (index < 0) {
        at++
        continue
      }
      const token = this.#tokens[index]!
      const inWord = token.singleWord && (wordBefore(text, at) || wordAt(text, end))
      if (!inWord && !(this.#ignoreSpecial && token.special)) {
        const from = token.lstrip ? Math.max(spaceAtEnd(text, at), done) : at
        if (from > done) takeStretch(text, done, from)
        takeToken(token.id)
        done = token.rstrip ? spaceAtStart(text, end) : end
      }
      at = end
    }
    if (done < text.length) takeStretch(text, done, text.length)
  }
}

export class AddedTokens {
  readonly #plain: Finder | null
  readonly #normalized: Finder | null
  readonly #normalize: Normalize | null

  /** With `ignoreSpecial`, special tokens written in a text are plain text. */
  constructor(tokens: readonly AddedToken[], normalize: Normalize | null, ignoreSpecial: boolean) {
    const used = tokens.filter(({ content }) => content !== '')
    // Special tokens come before others with the same text.
    const ordered = [...used.filter(({ special }) => special), ...used.filter(({ special }) => !special)]
    const plain = ordered.filter(({ normalized }) => !normalized).map((token) => [token.content, token] as const)
    const normalized = ordered
      .filter((token) => token.normalized)
      .map((token) => [token.text, token] as const)
      .filter(([text]) => text !== '')
    this.#plain = plain.length === 0 ? null : new Finder(plain, ignoreSpecial)
    this.#normalized = normalized.length === 0 ? null : new Finder(normalized, ignoreSpecial)
    this.#normalize = normalize
  }

  split(text: string, start: StretchStart, takeWords: TakeWords, takeToken: TakeToken): void {
    if (text === '') return
    const stretch: TakeStretch = (whole, from, to) => this.#stretch(whole.slice(from, to), from === 0 ? start : 'token', takeWords, takeToken)
    if (this.#plain === null) stretch(text, 0, text.length)
    else this.#plain.split(text, stretch, takeToken)
  }

  #stretch(text: string, start: StretchStart, takeWords: TakeWords, takeToken: TakeToken): void {
    if (this.#normalize === null && this.#normalized === null) {
      takeWords(text, start)
      return
    }
    const normalized = this.#normalize === null ? text : this.#normalize(text, start === 'joined')
    if (normalized === '') return
    // Where the normalizer drops the first character, what is left does not begin at the start.
    const keepsStart = this.#normalize === null || this.#normalize(String.fromCodePoint(text.codePointAt(0)!)) !== ''
    const begins = start === 'text' && !keepsStart ? 'token' : start
    if (this.#normalized === null) takeWords(normalized, begins)
    else this.#normalized.split(normalized, (whole, from, to) => takeWords(whole.slice(from, to), from === 0 ? begins : 'token'), takeToken)
  }
}

function wordAt(text: string, at: number): boolean {
  return at < text.length && rustWord().has(text.codePointAt(at)!)
}

function wordBefore(text: string, at: number): boolean {
  if (at === 0) return false
  return wordAt(text, at - (at > 1 && isLowSurrogate(text.charCodeAt(at - 1)) ? 2 : 1))
}
