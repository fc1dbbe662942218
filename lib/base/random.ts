/**
 * Counter-based random numbers for everything that TypeScript decides: shuffles, splits, generated data.
 *
 * A number depends on (seed, stream, position) and on nothing else, so no draw can disturb another one: adding a
 * dataset, a rank or a worker never changes an order that was there before.
 */

/** Four 32-bit words, the lowest first. */
export type PhiloxCounter = readonly [number, number, number, number]
/** Two 32-bit words, the lowest first. */
export type PhiloxKey = readonly [number, number]

const multiplier0 = 0xd2511f53
const multiplier1 = 0xcd9e8d57
const weyl0 = 0x9e3779b9
const weyl1 = 0xbb67ae85
const twoTo32 = 2 ** 32

/** The high 32 bits of the 64-bit product of two unsigned 32-bit numbers; doubles cannot hold it in one piece. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carry = aLow * bHigh + (middle & 0xffff)
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0
}

/**
 * Philox4x32-10: ten rounds over a 128-bit counter with a 64-bit key; returns four unsigned 32-bit words.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); Random123.
 */
export function philox(counter: PhiloxCounter, key: PhiloxKey): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, c0)
    const low0 = Math.imul(multiplier0, c0)
    const high1 = multiplyHigh(multiplier1, c2)
    const low1 = Math.imul(multiplier1, c2)
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1 >>> 0
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0 >>> 0
    k0 = (k0 + weyl0) >>> 0
    k1 = (k1 + weyl1) >>> 0
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0]
}

/** What a stream of numbers is for. A new purpose takes a new number; an old one never changes. */
export const randomPurpose = { split: 1, blend: 2, epoch: 3, evalBlend: 4, generatedData: 5, bootstrap: 6, weights: 7, labels: 8, dropout: 9, loraInit: 11, loraDropout: 12, sides: 14 } as const

/** The stream number of one purpose and an index within it (an epoch, a dataset): distinct pairs never meet. */
export function streamNumber(purpose: number, index = 0): number {
  return purpose * twoTo32 + index
}

const lowWord = (value: number): number => (value % twoTo32) >>> 0
const highWord = (value: number): number => Math.floor(value / twoTo32) >>> 0

/**
 * A sequence of numbers read in order from one (seed, stream). Both are whole numbers in [0, 2^53).
 * Counter words: block index low, block index high, stream low, stream high; key: seed low, seed high.
 */
export class RandomSequence {
  readonly #key: PhiloxKey
  readonly #streamLow: number
  readonly #streamHigh: number
  #block: readonly number[] = []
  #position = 0

  constructor(seed: number, stream: number) {
    this.#key = [lowWord(seed), highWord(seed)]
    this.#streamLow = lowWord(stream)
    this.#streamHigh = highWord(stream)
  }

  /** The next unsigned 32-bit word. */
  word(): number {
    const lane = this.#position % 4
    if (lane === 0) {
      const block = this.#position / 4
      this.#block = philox([lowWord(block), highWord(block), this.#streamLow, this.#streamHigh], this.#key)
    }
    this.#position++
    return this.#block[lane]!
  }

  /** The next number in [0, 1), a multiple of 2^-32. */
  uniform(): number {
    return this.word() / twoTo32
  }

  /** A whole number in [0, limit), each equally likely: words in the last, incomplete run of `limit` are drawn again. */
  below(limit: number): number {
    const fair = twoTo32 - (twoTo32 % limit)
    let word = this.word()
    while (word >= fair) word = this.word()
    return word % limit
  }
}

/** The number in [0, 1) at one position of a stream, without reading the ones before it. */
export function uniform(seed: number, stream: number, position: number): number {
  const block = Math.floor(position / 4)
  const words = philox([lowWord(block), highWord(block), lowWord(stream), highWord(stream)], [lowWord(seed), highWord(seed)])
  return words[position % 4]! / twoTo32
}

/** 64 bits at one position of a stream, as two words for the device, the lower first: a seed of its own for each step. */
export function seedAt(seed: number, stream: number, position: number): Int32Array {
  return Int32Array.from(philox([lowWord(position), highWord(position), lowWord(stream), highWord(stream)], [lowWord(seed), highWord(seed)]).slice(0, 2))
}

/** A permutation of 0 .. n-1 (Fisher-Yates) that depends on n, seed and stream alone. n < 2^31. */
export function seededShuffle(n: number, seed: number, stream: number): Int32Array {
  const order = Int32Array.from({ length: n }, (_, index) => index)
  const random = new RandomSequence(seed, stream)
  for (let last = n - 1; last > 0; last--) {
    const pick = random.below(last + 1)
    const kept = order[last]!
    order[last] = order[pick]!
    order[pick] = kept
  }
  return order
}
