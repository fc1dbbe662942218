/** Token ids, one at a time, to text that can be printed at once. */
import type { Tokenizer } from './tokenizer.js'

/** Stands where bytes are not (yet) a character. */
const replacement = '\ufffd'

/**
 * Text of a growing id sequence. `push` returns the text that became certain: while a character's UTF-8 bytes are
 * spread over several tokens it returns '' and holds them back. The pieces, with `end()` last, add up to decode(ids).
 */
export class TokenStream {
  readonly #tokenizer: Tokenizer
  readonly #skipSpecial: boolean
  /** The ids still needed: those of the last printed piece (decoders look one piece back for spaces), then the held ones. */
  #window: number[] = []
  /** How many ids at the window's start are printed. */
  #printed = 0

  constructor(tokenizer: Tokenizer, options: { readonly skipSpecial?: boolean } = {}) {
    this.#tokenizer = tokenizer
    this.#skipSpecial = options.skipSpecial ?? true
  }

  push(id: number): string {
    this.#window.push(id)
    return this.#take(false)
  }

  /** The rest, incomplete bytes as U+FFFD. The stream is empty afterwards and can be used again. */
  end(): string {
    const rest = this.#take(true)
    this.#window = []
    this.#printed = 0
    return rest
  }

  #take(all: boolean): string {
    const before = this.#text(this.#window.slice(0, this.#printed))
    const now = this.#text(this.#window)
    if (now.length <= before.length || (now.endsWith(replacement) && !all)) return ''
    const piece = now.slice(before.length)
    this.#window = this.#window.slice(this.#printed)
    this.#printed = this.#window.length
    return piece
  }

  #text(ids: readonly number[]): string {
    return this.#tokenizer.decode(ids, { skipSpecial: this.#skipSpecial })
  }
}
