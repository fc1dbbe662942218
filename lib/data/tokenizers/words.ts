/** WordPiece and WordLevel: words that are looked up, whole or in pieces. */
import { fail } from '../../base/errors.js'
import { toByteCharacters } from './byteCharacters.js'
import type { Model } from './model.js'
import { failOnUnspelled } from './model.js'
import type { IdBuffer } from './wordCache.js'

export interface WordParts {
  readonly vocab: ReadonlyMap<string, number>
  readonly unknownToken: string | null
}

export interface WordPieceParts extends WordParts {
  /** Stands before every piece but a word's first ("##"). */
  readonly continuingPrefix: string
  /** A word of more characters is unknown. */
  readonly maxCharacters: number
}

function unknownId({ vocab, unknownToken }: WordParts, word: string): number {
  if (unknownToken === null) failOnUnspelled(word)
  const id = vocab.get(unknownToken)
  if (id !== undefined) return id
  fail('tokenizer', 'the unknown token in the vocabulary', JSON.stringify(unknownToken), 'the tokenizer.json that came with the model')
}

export class WordLevel implements Model {
  readonly #parts: WordParts

  constructor(parts: WordParts) {
    this.#parts = parts
  }

  encode(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void {
    const slice = text.slice(from, to)
    const word = bytes ? toByteCharacters(slice) : slice
    out.push(this.#parts.vocab.get(word) ?? unknownId(this.#parts, word))
  }
}

/** The longest piece that fits, again and again from left to right; a word that does not come out even is unknown. */
export class WordPiece implements Model {
  readonly #parts: WordPieceParts
  /** The lengths that pieces have, the longest first: stretches of another length are not looked up. */
  readonly #lengths: readonly number[]

  constructor(parts: WordPieceParts) {
    this.#parts = parts
    const lengths = new Set<number>()
    for (const piece of parts.vocab.keys()) {
      lengths.add(piece.length)
      if (piece.startsWith(parts.continuingPrefix)) lengths.add(piece.length - parts.continuingPrefix.length)
    }
    this.#lengths = [...lengths].filter((length) => length > 0).sort((a, b) => b - a)
  }

  encode(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void {
    const slice = text.slice(from, to)
    const word = bytes ? toByteCharacters(slice) : slice
    const ids = this.#pieces(word)
    if (ids === null) out.push(unknownId(this.#parts, word))
    else for (const id of ids) out.push(id)
  }

  #pieces(word: string): number[] | null {
    const { vocab, continuingPrefix, maxCharacters } = this.#parts
    if (word.length > maxCharacters && Array.from(word).length > maxCharacters) return null
    const ids: number[] = []
    for (let start = 0; start < word.length; ) {
      const before = start === 0 ? '' : continuingPrefix
      let end = start
      let id: number | undefined
      for (const length of this.#lengths) {
        end = start + length
        // No piece ends inside a character, because none has half of one.
        if (end > word.length) continue
        id = vocab.get(before + word.slice(start, end))
        if (id !== undefined) break
      }
      if (id === undefined) return null
      ids.push(id)
      start = end
    }
    return ids
  }
}
