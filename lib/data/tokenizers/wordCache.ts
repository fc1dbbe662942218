/** Ids that grow in number, and the ids of words seen before. */

/** A growing list of ids. */
export class IdBuffer {
  ids: Int32Array = new Int32Array(256)
  length = 0

  push(id: number): void {
    if (this.length === this.ids.length) this.#grow(1)
    this.ids[this.length++] = id
  }

  append(from: Int32Array, start: number, end: number): void {
    if (this.length + end - start > this.ids.length) this.#grow(end - start)
    for (let i = start; i < end; i++) this.ids[this.length++] = from[i]!
  }

  taken(): Int32Array {
    return this.ids.slice(0, this.length)
  }

  #grow(by: number): void {
    const bigger = new Int32Array(Math.max(this.ids.length * 2, this.length + by))
    bigger.set(this.ids)
    this.ids = bigger
  }
}

const longestKey = 64
/** Bounds of a full cache: 1.3 MB of words and ids, 2.6 MB of tables. */
const mostWords = 1 << 16
const mostUnits = 1 << 19
const mostIds = 1 << 18

/**
 * Words and their ids, found without making a string of each word: the key is compared with the text itself. When it is
 * full it starts again, which costs the common words one more encoding each.
 */
export class WordCache {
  #slots = new Int32Array(1 << 10)
  /** Five numbers a word: hash, start and end of its key, start and end of its ids. */
  #words: Int32Array = new Int32Array(5 << 9)
  #units: Uint16Array = new Uint16Array(1 << 12)
  #ids: Int32Array = new Int32Array(1 << 11)
  #wordCount = 0
  #unitCount = 0
  #idCount = 0

  static fits(from: number, to: number): boolean {
    return to - from <= longestKey
  }

  static hash(text: string, from: number, to: number): number {
    let hash = 0x811c9dc5 ^ (to - from)
    for (let i = from; i < to; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
    return hash ^ (hash >>> 13)
  }

  /** Appends the ids of text[from, to) and says true, or false where the word is not here. */
  find(text: string, from: number, to: number, hash: number, out: IdBuffer): boolean {
    const mask = this.#slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const word = this.#slots[slot]! - 1
      if (word < 0) return false
      const at = word * 5
      if (this.#words[at] !== hash || !this.#same(text, from, to, at)) continue
      out.append(this.#ids, this.#words[at + 3]!, this.#words[at + 4]!)
      return true
    }
  }

  #same(text: string, from: number, to: number, at: number): boolean {
    const start = this.#words[at + 1]!
    if (this.#words[at + 2]! - start !== to - from) return false
    for (let i = from; i < to; i++) if (this.#units[start + i - from] !== text.charCodeAt(i)) return false
    return true
  }

  /** Adds a word that find did not find. Its ids are those of `out` from `first` on. */
  add(text: string, from: number, to: number, hash: number, out: IdBuffer, first: number): void {
    const idCount = out.length - first
    if (this.#wordCount === mostWords || this.#unitCount + to - from > mostUnits || this.#idCount + idCount > mostIds) this.clear()
    if ((this.#wordCount + 1) * 5 > this.#words.length) this.#words = grown(this.#words)
    while (this.#unitCount + to - from > this.#units.length) this.#units = grown(this.#units)
    while (this.#idCount + idCount > this.#ids.length) this.#ids = grown(this.#ids)
    this.#words.set([hash, this.#unitCount, this.#unitCount + to - from, this.#idCount, this.#idCount + idCount], this.#wordCount * 5)
    for (let i = from; i < to; i++) this.#units[this.#unitCount++] = text.charCodeAt(i)
    for (let i = first; i < out.length; i++) this.#ids[this.#idCount++] = out.ids[i]!
    this.#wordCount++
    // At most half full, so that a search for a word that is not here ends soon.
    if (this.#wordCount * 2 > this.#slots.length) this.#rehash(this.#slots.length * 2)
    else this.#place(this.#wordCount - 1)
  }

  clear(): void {
    this.#slots.fill(0)
    this.#wordCount = 0
    this.#unitCount = 0
    this.#idCount = 0
  }

  get size(): number {
    return this.#wordCount
  }

  #place(word: number): void {
    const mask = this.#slots.length - 1
    let slot = this.#words[word * 5]! & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = word + 1
  }

  #rehash(size: number): void {
    this.#slots = new Int32Array(size)
    for (let word = 0; word < this.#wordCount; word++) this.#place(word)
  }
}

function grown<T extends Int32Array | Uint16Array>(array: T): T {
  const bigger = new (array.constructor as new (length: number) => T)(array.length * 2)
  bigger.set(array)
  return bigger
}
