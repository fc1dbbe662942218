// Values pushed by one side and awaited by the other, in order.

/** `for await` gives what was pushed, until end() or fail(). One reader. */
export class AsyncQueue<T> implements AsyncIterable<T> {
  #values: T[] = []
  #ended = false
  #error: { reason: unknown } | null = null
  #wake: (() => void) | null = null

  push(value: T): void {
    this.#values.push(value)
    this.#wake?.()
  }

  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  /** The reader gets the values so far, then this error. */
  fail(reason: unknown): void {
    this.#error = { reason }
    this.end()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      while (this.#values.length > 0) yield this.#values.shift()!
      if (this.#error) throw this.#error.reason
      if (this.#ended) return
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}
