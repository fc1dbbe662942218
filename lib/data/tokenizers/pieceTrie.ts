/** Pieces by their UTF-16 units, to find all that begin at a place of a text. */

const none = -1

/** A trie in arrays: nodes are numbers, edges stand in one hash table under node and unit. */
export class PieceTrie {
  #nodeValues: number[] = [none]
  /** Three numbers a slot: node (-1 where empty), unit, child. */
  #edges = new Int32Array(3 * 64).fill(none)
  #edgeCount = 0

  /** The later of two equal pieces counts. */
  add(piece: string, value: number): void {
    let node = 0
    for (let i = 0; i < piece.length; i++) node = this.#child(node, piece.charCodeAt(i))
    this.#nodeValues[node] = value
  }

  /** Calls with end and value of every piece that begins at `from`, the shortest first. */
  prefixes(text: string, from: number, each: (end: number, value: number) => void): void {
    let node = 0
    for (let i = from; i < text.length; i++) {
      node = this.#edges[this.#slot(node, text.charCodeAt(i)) + 2]!
      if (node === none) return
      const value = this.#nodeValues[node]!
      if (value !== none) each(i + 1, value)
    }
  }

  /** True where some piece begins with this unit. */
  begins(unit: number): boolean {
    return this.#edges[this.#slot(0, unit)] !== none
  }

  #slot(node: number, unit: number): number {
    const mask = this.#edges.length / 3 - 1
    let hash = Math.imul(node, 0x9e3779b1) ^ Math.imul(unit, 0x85ebca6b)
    hash ^= hash >>> 15
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const at = slot * 3
      if (this.#edges[at] === none || (this.#edges[at] === node && this.#edges[at + 1] === unit)) return at
    }
  }

  #child(node: number, unit: number): number {
    let at = this.#slot(node, unit)
    if (this.#edges[at] !== none) return this.#edges[at + 2]!
    if ((this.#edgeCount + 1) * 2 > this.#edges.length / 3) {
      this.#grow()
      at = this.#slot(node, unit)
    }
    const child = this.#nodeValues.length
    this.#nodeValues.push(none)
    this.#edges.set([node, unit, child], at)
    this.#edgeCount++
    return child
  }

  #grow(): void {
    const old = this.#edges
    this.#edges = new Int32Array(old.length * 2).fill(none)
    for (let at = 0; at < old.length; at += 3) {
      if (old[at] !== none) this.#edges.set(old.subarray(at, at + 3), this.#slot(old[at]!, old[at + 1]!))
    }
  }
}
