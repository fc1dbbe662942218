// Stop strings: the text of each row is watched token by token.
import { TokenStream } from '../data/tokenStream.js'
import type { Tokenizer } from '../data/tokenizer.js'

export class StopTexts {
  readonly #rows = new Map<number, { stream: TokenStream; tail: string }>()
  readonly #longest: number

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly texts: readonly string[],
  ) {
    this.#longest = Math.max(...texts.map((t) => t.length))
  }

  /** True when this token completes a stop text of row `index`. */
  push(index: number, token: number): boolean {
    let row = this.#rows.get(index)
    if (!row) this.#rows.set(index, (row = { stream: new TokenStream(this.tokenizer), tail: '' }))
    const text = row.tail + row.stream.push(token)
    row.tail = text.slice(-this.#longest)
    return this.texts.some((t) => text.includes(t))
  }
}

/** `text` up to the first stop text. */
export function cutAtStop(text: string, stops: readonly string[]): string {
  const at = Math.min(...stops.map((s) => text.indexOf(s)).filter((i) => i >= 0), text.length)
  return text.slice(0, at)
}
