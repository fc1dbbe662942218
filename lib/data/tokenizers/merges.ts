/** The merges of a byte-pair encoding: which pairs of ids become one, in which order. */

const absent = -1

/** Pairs of ids -> rank and the id they merge to, in one open hash table. */
export class MergeTable {
  /** Four numbers a slot: left, right, rank, merged; left is -1 in an empty slot. */
  readonly #slots: Int32Array
  readonly #mask: number

  /** Merges in the order of their ranks; of a pair that stands twice, the later place counts. */
  constructor(merges: readonly (readonly [left: number, right: number, merged: number])[]) {
    let size = 4
    while (size < merges.length * 2) size *= 2
    this.#mask = size - 1
    this.#slots = new Int32Array(size * 4).fill(absent)
    for (const [rank, [left, right, merged]] of merges.entries()) {
      const at = this.#find(left, right)
      this.#slots[at] = left
      this.#slots[at + 1] = right
      this.#slots[at + 2] = rank
      this.#slots[at + 3] = merged
    }
  }

  #find(left: number, right: number): number {
    let slot = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    slot = (slot ^ (slot >>> 15)) & this.#mask
    for (;;) {
      const at = slot * 4
      const found = this.#slots[at]!
      if (found === absent || (found === left && this.#slots[at + 1] === right)) return at
      slot = (slot + 1) & this.#mask
    }
  }

  /** Where the pair's rank and merged id stand, or -1. */
  place(left: number, right: number): number {
    const at = this.#find(left, right)
    return this.#slots[at] === absent ? -1 : at
  }

  rankAt(place: number): number {
    return this.#slots[place + 2]!
  }

  mergedAt(place: number): number {
    return this.#slots[place + 3]!
  }
}

/** Up to here the lowest rank is searched among all pairs; beyond, a heap is faster. */
const scanned = 48

/**
 * Merges the symbols of a word: always the pair of the lowest rank, the leftmost of equals, until no pair is left. The
 * result stands at the start of `symbols`; its length is returned.
 */
export class Merger {
  readonly #table: MergeTable
  #places: Int32Array = new Int32Array(64)
  #next: Int32Array = new Int32Array(0)
  #before: Int32Array = new Int32Array(0)
  #heap: Float64Array = new Float64Array(0)
  #heapSize = 0

  constructor(table: MergeTable) {
    this.#table = table
  }

  merge(symbols: Int32Array, length: number): number {
    return length <= scanned ? this.#scan(symbols, length) : this.#queue(symbols, length)
  }

  #scan(symbols: Int32Array, length: number): number {
    const table = this.#table
    const places = this.#places
    let count = length
    for (let i = 0; i + 1 < count; i++) places[i] = table.place(symbols[i]!, symbols[i + 1]!)
    while (count > 1) {
      let lowest = Infinity
      let best = -1
      for (let i = 0; i + 1 < count; i++) {
        const place = places[i]!
        if (place < 0) continue
        const rank = table.rankAt(place)
        if (rank >= lowest) continue
        lowest = rank
        best = i
      }
      if (best < 0) break
      symbols[best] = table.mergedAt(places[best]!)
      count--
      for (let i = best + 1; i < count; i++) {
        symbols[i] = symbols[i + 1]!
        places[i] = places[i + 1]!
      }
      if (best > 0) places[best - 1] = table.place(symbols[best - 1]!, symbols[best]!)
      if (best + 1 < count) places[best] = table.place(symbols[best]!, symbols[best + 1]!)
    }
    return count
  }

  /** The same with a queue of pairs by rank, then place; symbols are linked and never move. */
  #queue(symbols: Int32Array, length: number): number {
    const table = this.#table
    if (this.#next.length < length) {
      this.#next = new Int32Array(length * 2)
      this.#before = new Int32Array(length * 2)
    }
    const next = this.#next
    const before = this.#before
    this.#heapSize = 0
    for (let i = 0; i < length; i++) {
      next[i] = i + 1 < length ? i + 1 : -1
      before[i] = i - 1
      if (i + 1 < length) this.#offer(symbols, i, i + 1)
    }
    while (this.#heapSize > 0) {
      const key = this.#pop()
      const rank = Math.floor(key / positions)
      const at = key - rank * positions
      const right = symbols[at]! < 0 ? -1 : next[at]!
      if (right < 0) continue
      const place = table.place(symbols[at]!, symbols[right]!)
      // A pair that has changed since it was queued.
      if (place < 0 || table.rankAt(place) !== rank) continue
      symbols[at] = table.mergedAt(place)
      symbols[right] = -1
      const after = next[right]!
      next[at] = after
      if (after >= 0) {
        before[after] = at
        this.#offer(symbols, at, after)
      }
      if (before[at]! >= 0) this.#offer(symbols, before[at]!, at)
    }
    let count = 0
    for (let at = 0; at >= 0; at = next[at]!) symbols[count++] = symbols[at]!
    // Memory of one very long text is not kept for all those that follow.
    if (length > 1 << 16) {
      this.#next = new Int32Array(0)
      this.#before = new Int32Array(0)
      this.#heap = new Float64Array(0)
    }
    return count
  }

  #offer(symbols: Int32Array, left: number, right: number): void {
    const place = this.#table.place(symbols[left]!, symbols[right]!)
    if (place < 0) return
    if (this.#heapSize === this.#heap.length) {
      const bigger = new Float64Array(Math.max(256, this.#heap.length * 2))
      bigger.set(this.#heap)
      this.#heap = bigger
    }
    const heap = this.#heap
    const key = this.#table.rankAt(place) * positions + left
    let at = this.#heapSize++
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (heap[parent]! <= key) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = key
  }

  #pop(): number {
    const heap = this.#heap
    const top = heap[0]!
    const key = heap[--this.#heapSize]!
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= this.#heapSize) break
      if (child + 1 < this.#heapSize && heap[child + 1]! < heap[child]!) child++
      if (heap[child]! >= key) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = key
    return top
  }
}

/** A queue key is rank * positions + place: exact in a double for ranks below 2^22. */
const positions = 2 ** 31
