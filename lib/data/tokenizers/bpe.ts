/** Byte-pair encoding, over characters or, in the hot path, straight over the bytes of the text. */
import { fail } from '../../base/errors.js'
import { byteCharacters, toByteCharacters } from './byteCharacters.js'
import { Merger, MergeTable } from './merges.js'
import type { Model } from './model.js'
import { failOnUnspelled } from './model.js'
import type { IdBuffer } from './wordCache.js'
import { WordCache } from './wordCache.js'

export interface BpeParts {
  readonly vocab: ReadonlyMap<string, number>
  readonly merges: readonly (readonly [left: number, right: number, merged: number])[]
  readonly unknownToken: string | null
  readonly fuseUnknown: boolean
  /** A character outside the vocabulary becomes <0xE4> <0xBD> <0xA0>, where all of these are in it. */
  readonly byteFallback: boolean
  readonly continuingPrefix: string
  readonly endSuffix: string
  /** A word that is in the vocabulary is one token, whatever the merges say. */
  readonly ignoreMerges: boolean
}

const encoder = new TextEncoder()

export class Bpe implements Model {
  readonly #parts: BpeParts
  readonly #merger: Merger
  readonly #cache = new WordCache()
  /** Id of each byte's character, -1 where the vocabulary lacks it. */
  readonly #byteIds: Int32Array
  /** Words over bytes need no string of their characters. */
  readonly #straight: boolean
  /** Id of <0x00> to <0xFF>, -1 where it is missing. */
  readonly #fallbackIds: Int32Array
  #symbols: Int32Array = new Int32Array(64)

  constructor(parts: BpeParts) {
    this.#parts = parts
    this.#merger = new Merger(new MergeTable(parts.merges))
    this.#byteIds = Int32Array.from(byteCharacters, (character) => parts.vocab.get(character) ?? -1)
    this.#straight = !this.#byteIds.includes(-1) && parts.continuingPrefix === '' && parts.endSuffix === ''
    this.#fallbackIds = Int32Array.from({ length: 256 }, (_, byte) => parts.vocab.get(bytePiece(byte)) ?? -1)
  }

  encode(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void {
    if (!WordCache.fits(from, to)) {
      this.#encodeNew(text, from, to, bytes, out)
      return
    }
    const hash = WordCache.hash(text, from, to)
    if (this.#cache.find(text, from, to, hash, out)) return
    const first = out.length
    this.#encodeNew(text, from, to, bytes, out)
    this.#cache.add(text, from, to, hash, out, first)
  }

  #encodeNew(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void {
    const { vocab, ignoreMerges } = this.#parts
    if (bytes && this.#straight && !ignoreMerges) {
      this.#finish(this.#byteSymbols(text, from, to), out)
      return
    }
    const slice = text.slice(from, to)
    const word = bytes ? toByteCharacters(slice) : slice
    const whole = ignoreMerges ? vocab.get(word) : undefined
    if (whole !== undefined) out.push(whole)
    else if (bytes && this.#straight) this.#finish(this.#byteSymbols(text, from, to), out)
    else this.#finish(this.#characterSymbols(word), out)
  }

  #finish(length: number, out: IdBuffer): void {
    const count = this.#merger.merge(this.#symbols, length)
    out.append(this.#symbols, 0, count)
    if (this.#symbols.length > 1 << 16) this.#symbols = new Int32Array(64)
  }

  #room(length: number): Int32Array {
    if (this.#symbols.length < length) this.#symbols = new Int32Array(length * 2)
    return this.#symbols
  }

  /** The UTF-8 bytes of a word without surrogates that stand alone. */
  #byteSymbols(text: string, from: number, to: number): number {
    const symbols = this.#room((to - from) * 3)
    const ids = this.#byteIds
    let n = 0
    for (let i = from; i < to; i++) {
      let point = text.charCodeAt(i)
      if (point < 0x80) {
        symbols[n++] = ids[point]!
        continue
      }
      if (point >= 0xd800 && point < 0xdc00) point = 0x10000 + ((point - 0xd800) << 10) + (text.charCodeAt(++i) - 0xdc00)
      if (point < 0x800) symbols[n++] = ids[0xc0 | (point >> 6)]!
      else {
        if (point < 0x10000) symbols[n++] = ids[0xe0 | (point >> 12)]!
        else {
          symbols[n++] = ids[0xf0 | (point >> 18)]!
          symbols[n++] = ids[0x80 | ((point >> 12) & 0x3f)]!
        }
        symbols[n++] = ids[0x80 | ((point >> 6) & 0x3f)]!
      }
      symbols[n++] = ids[0x80 | (point & 0x3f)]!
    }
    return n
  }

  /** The characters of a word, with prefix and suffix, as `tokenizers` takes them. */
  #characterSymbols(word: string): number {
    const { vocab, byteFallback, continuingPrefix, endSuffix, fuseUnknown } = this.#parts
    this.#room(encoder.encode(word).length + endSuffix.length * 3 + 1)
    let n = 0
    let unknown = -1
    let at = 0
    for (const character of word) {
      const before = at === 0 ? '' : continuingPrefix
      at += character.length
      const piece = before + character + (at === word.length ? endSuffix : '')
      const id = vocab.get(piece)
      if (id !== undefined) {
        if (unknown >= 0) this.#symbols[n++] = unknown
        unknown = -1
        this.#symbols[n++] = id
        continue
      }
      if (byteFallback) {
        const fallback = this.#fallback(piece, n)
        // An unknown token that waits to be fused stays behind these bytes: `tokenizers` does so too.
        if (fallback > n) {
          n = fallback
          continue
        }
      }
      if (unknown >= 0 && !fuseUnknown) this.#symbols[n++] = unknown
      unknown = this.#unknownId(character)
    }
    if (unknown >= 0) this.#symbols[n++] = unknown
    return n
  }

  /** Writes the byte tokens of a piece from n on and returns where they end; n where one of them is missing. */
  #fallback(piece: string, n: number): number {
    const bytes = encoder.encode(piece)
    if (bytes.some((byte) => this.#fallbackIds[byte]! < 0)) return n
    const symbols = this.#symbols.length < n + bytes.length + 1 ? this.#more(n + bytes.length + 1) : this.#symbols
    for (const byte of bytes) symbols[n++] = this.#fallbackIds[byte]!
    return n
  }

  #more(length: number): Int32Array {
    const bigger = new Int32Array(length * 2)
    bigger.set(this.#symbols)
    this.#symbols = bigger
    return bigger
  }

  #unknownId(character: string): number {
    const { unknownToken, vocab } = this.#parts
    if (unknownToken === null) failOnUnspelled(character)
    const id = vocab.get(unknownToken)
    if (id !== undefined) return id
    fail('tokenizer', 'the unknown token in the vocabulary', JSON.stringify(unknownToken), 'the tokenizer.json that came with the model')
  }
}

/** 10 -> "<0x0A>" */
export function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
}
