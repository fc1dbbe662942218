/** Token rows side by side in typed arrays that grow: what workers send and what a store is made of. */
import type { TokenRow } from './records.js'
import { partNumbers } from './rowList.js'

/** [T] ids and marks, [parts, 3] numbers (length, note, copies). */
export interface RowArrays {
  readonly ids: Int32Array
  readonly counted: Uint8Array
  readonly numbers: Uint32Array
}

export class RowBuffer {
  #ids = new Int32Array(1024)
  #counted = new Uint8Array(1024)
  #numbers = new Uint32Array(64 * partNumbers)
  #tokens = 0
  #parts = 0

  get tokens(): number {
    return this.#tokens
  }

  append(parts: readonly TokenRow[], notes: readonly number[], copies: number): void {
    const tokens = parts.reduce((sum, { ids }) => sum + ids.length, 0)
    this.#room(tokens, parts.length)
    for (const [i, { ids, counted }] of parts.entries()) {
      this.#ids.set(ids, this.#tokens)
      this.#counted.set(counted, this.#tokens)
      this.#tokens += ids.length
      this.#numbers.set([ids.length, notes[i]!, i === 0 ? copies : 0], this.#parts++ * partNumbers)
    }
  }

  appendAll({ ids, counted, numbers }: RowArrays): void {
    const parts = numbers.length / partNumbers
    this.#room(ids.length, parts)
    this.#ids.set(ids, this.#tokens)
    this.#counted.set(counted, this.#tokens)
    this.#numbers.set(numbers, this.#parts * partNumbers)
    this.#tokens += ids.length
    this.#parts += parts
  }

  /** What was appended so far, in arrays of its own; the buffer is empty then. */
  take(): RowArrays {
    const arrays = { ids: this.#ids.slice(0, this.#tokens), counted: this.#counted.slice(0, this.#tokens), numbers: this.#numbers.slice(0, this.#parts * partNumbers) }
    this.#tokens = this.#parts = 0
    return arrays
  }

  #room(tokens: number, parts: number): void {
    const needed = this.#tokens + tokens
    if (needed > this.#ids.length) {
      this.#ids = grown(this.#ids, new Int32Array(roomFor(needed, this.#ids.length)))
      this.#counted = grown(this.#counted, new Uint8Array(this.#ids.length))
    }
    const numbers = (this.#parts + parts) * partNumbers
    if (numbers > this.#numbers.length) this.#numbers = grown(this.#numbers, new Uint32Array(roomFor(numbers, this.#numbers.length)))
  }
}

const roomFor = (needed: number, now: number): number => Math.max(needed, 2 * now)

function grown<A extends Int32Array | Uint8Array | Uint32Array>(old: A, fresh: A): A {
  fresh.set(old)
  return fresh
}
