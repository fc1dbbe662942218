/** What turns a word into ids. */
import { fail } from '../../base/errors.js'
import type { IdBuffer } from './wordCache.js'

export interface Model {
  /**
   * Appends the ids of text[from, to), which has no lone surrogates. With `bytes`, the vocabulary holds GPT-2's
   * characters of bytes and the text is still the plain one.
   */
  encode(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void
}

export function failOnUnspelled(piece: string): never {
  fail('tokenizer', 'text that the vocabulary can spell', JSON.stringify(piece), 'a tokenizer with an unknown token')
}
