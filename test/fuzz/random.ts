// Random numbers that a seed, a name and an index give again on any machine: mulberry32 over a hash of the three.

export class Random {
  #state: number

  constructor(seed: number, name: string, index: number) {
    // FNV-1a, 32 bits
    let hash = 0x811c9dc5
    for (const character of `${seed} ${name} ${index}`) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193)
    this.#state = hash
  }

  /** 32 random bits. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }

  /** A whole number from 0 up to, not with, `limit`; 0 for a limit of 0. */
  below(limit: number): number {
    return limit === 0 ? 0 : this.bits() % limit
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!
  }
}
