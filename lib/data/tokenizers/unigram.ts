/** The unigram model: of all ways to cut a text into pieces of the vocabulary, the one with the highest sum of scores. */
import { bytePiece } from './bpe.js'
import type { Model } from './model.js'
import { failOnUnspelled } from './model.js'
import { toByteCharacters } from './byteCharacters.js'
import { PieceTrie } from './pieceTrie.js'
import type { IdBuffer } from './wordCache.js'

export interface UnigramParts {
  /** In the order of ids; of a piece that stands twice the later place counts. */
  readonly pieces: readonly (readonly [piece: string, score: number])[]
  readonly unknownId: number | null
  readonly byteFallback: boolean
  /** Adds in float32, as SentencePiece does: it decides between ways that are equally good. */
  readonly float32: boolean
}

/** An unknown character costs this much more than the rarest piece. */
const unknownPenalty = 10
const encoder = new TextEncoder()

export class Unigram implements Model {
  readonly #ids = new Map<string, number>()
  readonly #scores: Float64Array
  readonly #trie = new PieceTrie()
  readonly #unknownId: number | null
  readonly #unknownScore: number
  /** Null without byte fallback, or where a byte's piece is missing. */
  readonly #byteIds: Int32Array | null
  #best: Float64Array = new Float64Array(64)
  #start: Int32Array = new Int32Array(64)
  #piece: Int32Array = new Int32Array(64)

  readonly #round: (sum: number) => number

  constructor({ pieces, unknownId, byteFallback, float32 }: UnigramParts) {
    this.#round = float32 ? Math.fround : (sum) => sum
    for (const [id, [piece]] of pieces.entries()) {
      this.#ids.set(piece, id)
      if (piece !== '') this.#trie.add(piece, id)
    }
    this.#scores = Float64Array.from(pieces, ([, score]) => score)
    this.#unknownId = unknownId
    this.#unknownScore = this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - unknownPenalty
    this.#byteIds = byteFallback ? Int32Array.from({ length: 256 }, (_, byte) => this.#ids.get(bytePiece(byte)) ?? -1) : null
  }

  encode(text: string, from: number, to: number, bytes: boolean, out: IdBuffer): void {
    const slice = text.slice(from, to)
    const word = bytes ? toByteCharacters(slice) : slice
    if (word === '') return
    this.#forward(word)
    const cuts = [word.length]
    // From the back; neighbouring unknown characters are one piece.
    let unknown = false
    for (let end = word.length; end > 0; ) {
      const start = this.#start[end]!
      const again = this.#piece[end] === this.#unknownId
      if (unknown && again) cuts[cuts.length - 1] = start
      else cuts.push(start)
      unknown = again
      end = start
    }
    for (let i = cuts.length - 1; i > 0; i--) this.#piecesOf(word.slice(cuts[i]!, cuts[i - 1]!), out)
  }

  /** For each place the best sum of scores that leads there, and where its last piece begins. */
  #forward(word: string): void {
    const { length } = word
    if (this.#best.length <= length) {
      this.#best = new Float64Array(2 * length + 1)
      this.#start = new Int32Array(2 * length + 1)
      this.#piece = new Int32Array(2 * length + 1)
    }
    const best = this.#best
    const start = this.#start.fill(-1, 0, length + 1)
    const piece = this.#piece
    best[0] = 0
    const offer = (from: number, to: number, id: number, score: number): void => {
      const sum = this.#round(best[from]! + score)
      // Of equals the first one stays.
      if (start[to]! >= 0 && !(sum > best[to]!)) return
      best[to] = sum
      start[to] = from
      piece[to] = id
    }
    for (let at = 0; at < length; ) {
      const width = word.codePointAt(at)! > 0xffff ? 2 : 1
      let single = false
      this.#trie.prefixes(word, at, (end, id) => {
        offer(at, end, id, this.#scores[id]!)
        single ||= end === at + width
      })
      if (!single) offer(at, at + width, this.#unknownId ?? failOnUnspelled(word.slice(at, at + width)), this.#unknownScore)
      at += width
    }
  }

  #piecesOf(piece: string, out: IdBuffer): void {
    const id = this.#ids.get(piece)
    if (id !== undefined) {
      out.push(id)
      return
    }
    const bytes = this.#byteIds === null ? null : encoder.encode(piece)
    if (bytes !== null && bytes.every((byte) => this.#byteIds![byte]! >= 0)) {
      for (const byte of bytes) out.push(this.#byteIds![byte]!)
    } else out.push(this.#unknownId ?? failOnUnspelled(piece))
  }
}
