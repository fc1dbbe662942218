/** Token rows side by side in typed arrays that grow: what workers send and what a store is made of. */
import type { TokenRow } from './records.js'
import { rowNumbers } from './rowList.js'

/** [T] ids and marks, [rows, 4] numbers (lengths of both parts, note, copies). */
export interface RowArrays {
  readonly ids: Int32Array
  readonly counted: Uint8Array
  readonly numbers: Uint32Array
}

export class RowBuffer {
  #ids = new Int32Array(1024)
  #counted = new Uint8Array(1024)
  #numbers = new Uint32Array(64 * rowNumbers)
  #tokens = 0
  #rows = 0

  get rows(): number {
    return this.#rows
  }

  get tokens(): number {
    return this.#tokens
  }

  append(parts: readonly TokenRow[], note: number, copies: number): void {
    const tokens = parts.reduce((sum, { ids }) => sum + ids.length, 0)
    this.#room(tokens, 1)
    for (const { ids, counted } of parts) {
      this.#ids.set(ids, this.#tokens)
      this.#counted.set(counted, this.#tokens)
      this.#tokens += ids.length
    }
    this.#numbers.set([parts[0]!.ids.length, parts[1]?.ids.length ?? 0, note, copies], this.#rows++ * rowNumbers)
  }

  appendAll({ ids, counted, numbers }: RowArrays): void {
    const rows = numbers.length / rowNumbers
    this.#room(ids.length, rows)
    this.#ids.set(ids, this.#tokens)
    this.#counted.set(counted, this.#tokens)
    this.#numbers.set(numbers, this.#rows * rowNumbers)
    this.#tokens += ids.length
    this.#rows += rows
  }

  /** What was appended so far, in arrays of its own; the buffer is empty then. */
  take(): RowArrays {
    const arrays = { ids: this.#ids.slice(0, this.#tokens), counted: this.#counted.slice(0, this.#tokens), numbers: this.#numbers.slice(0, this.#rows * rowNumbers) }
    this.#tokens = this.#rows = 0
    return arrays
  }

  #room(tokens: number, rows: number): void {
    const needed = this.#tokens + tokens
    if (needed > this.#ids.length) {
      this.#ids = grown(this.#ids, new Int32Array(roomFor(needed, this.#ids.length)))
      this.#counted = grown(this.#counted, new Uint8Array(this.#ids.length))
    }
    const numbers = (this.#rows + rows) * rowNumbers
    if (numbers > this.#numbers.length) this.#numbers = grown(this.#numbers, new Uint32Array(roomFor(numbers, this.#numbers.length)))
  }
}

const roomFor = (needed: number, now: number): number => Math.max(needed, 2 * now)

function grown<A extends Int32Array | Uint8Array | Uint32Array>(old: A, fresh: A): A {
  fresh.set(old)
  return fresh
}
