/** Token ids, one at a time, to text that can be printed at once. */
import type { TextDecoderStream, Tokenizer } from './tokenizer.js'

/**
 * Text of a growing id sequence. `push` returns the text that became certain: while a character's UTF-8 bytes are
 * spread over several tokens it returns '' and holds them back. The pieces, with `end()` last, add up to decode(ids).
 */
export class TokenStream {
  readonly #open: () => TextDecoderStream
  #stream: TextDecoderStream | null = null
  #text = ''

  constructor(tokenizer: Tokenizer, options: { readonly skipSpecial?: boolean } = {}) {
    const skipSpecial = options.skipSpecial ?? true
    this.#open = () => tokenizer.decoder({ skipSpecial }, (piece) => (this.#text += piece))
  }

  push(id: number): string {
    this.#stream ??= this.#open()
    this.#stream.push(id)
    return this.#taken()
  }

  /** The rest, incomplete bytes as U+FFFD. The stream is empty afterwards and can be used again. */
  end(): string {
    this.#stream?.end()
    this.#stream = null
    return this.#taken()
  }

  #taken(): string {
    const text = this.#text
    this.#text = ''
    return text
  }
}
