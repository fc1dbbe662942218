/** SentencePiece's tokenizer.model: a protocol buffer of pieces with scores, and how the text was prepared for them. */
import { fail } from '../../base/errors.js'
import { kindOf } from '../../base/json.js'
import type { WireField } from './wire.js'
import { WireError, wireFields } from './wire.js'

export type PieceType = 'normal' | 'unknown' | 'control' | 'userDefined' | 'unused' | 'byte'

export interface SentencePiece {
  readonly piece: string
  readonly score: number
  readonly type: PieceType
}

export interface SentencePieceModel {
  readonly pieces: readonly SentencePiece[]
  readonly type: 'unigram' | 'bpe'
  readonly byteFallback: boolean
  /** -1 where there is none. */
  readonly unknownId: number
  readonly bosId: number
  readonly eosId: number
  /** Empty where the text is left as it is. */
  readonly charsmap: Uint8Array
  readonly addDummyPrefix: boolean
  readonly removeExtraWhitespaces: boolean
}

const pieceTypes: readonly (PieceType | undefined)[] = [undefined, 'normal', 'unknown', 'control', 'userDefined', 'unused', 'byte']
const modelTypes = ['', 'unigram', 'bpe', 'word', 'char']
/** SentencePiece's own limit is 16 unless it is told otherwise. */
const longestPiece = 1000
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Reads a model. Errors name the file and the byte. */
export function parseSentencePiece(bytes: Uint8Array, file: string): SentencePieceModel {
  try {
    return new Reader(file).model(bytes)
  } catch (error) {
    if (error instanceof WireError) failOnModel(file, error.message)
    throw error
  }
}

function failOnModel(file: string, received: string): never {
  fail('tokenizer', `a SentencePiece model in ${file}`, received, 'the tokenizer.model that came with the model, or its tokenizer.json')
}

class Reader {
  readonly #file: string

  constructor(file: string) {
    this.#file = file
  }

  model(bytes: Uint8Array): SentencePieceModel {
    const pieces: SentencePiece[] = []
    const seen = new Map<string, number>()
    let trainer: ReadonlyMap<number, WireField> = new Map()
    let normalizer: ReadonlyMap<number, WireField> = new Map()
    for (const field of wireFields(bytes)) {
      if (field.number === 1) {
        const piece = this.#piece(field)
        const before = seen.get(piece.piece)
        if (before !== undefined) this.#fail(field, `piece ${pieces.length} with the text ${JSON.stringify(piece.piece)} of piece ${before}`)
        seen.set(piece.piece, pieces.length)
        pieces.push(piece)
      } else if (field.number === 2) trainer = this.#fields(field)
      else if (field.number === 3) normalizer = this.#fields(field)
    }
    if (pieces.length === 0) failOnModel(this.#file, `${bytes.length} bytes without a piece`)
    const modelType = this.#number(trainer, 3, 1)
    const type = modelTypes[modelType]
    if (type !== 'unigram' && type !== 'bpe') {
      fail('tokenizer', `a SentencePiece model of the type unigram or bpe in ${this.#file}`, type ? `the type ${type}` : `type ${modelType}`, 'a model with a tokenizer.json')
    }
    if (this.#number(trainer, 24, 0) !== 0) {
      fail('tokenizer', `white space at the start of pieces in ${this.#file}`, 'treat_whitespace_as_suffix', 'a model with a tokenizer.json')
    }
    if (this.#number(normalizer, 5, 1) === 0) {
      fail('tokenizer', `white space written as "▁" in ${this.#file}`, 'escape_whitespaces: false', 'a model with a tokenizer.json')
    }
    const id = (number: number, otherwise: number): number => {
      const value = this.#number(trainer, number, otherwise)
      if (value >= pieces.length) this.#fail(trainer.get(number), `the special id ${value} with ${pieces.length} pieces`)
      return Math.max(value, -1)
    }
    const charsmap = normalizer.get(2)
    return {
      pieces,
      type,
      byteFallback: this.#number(trainer, 35, 0) !== 0,
      unknownId: id(40, 0),
      bosId: id(41, pieces.length > 1 ? 1 : -1),
      eosId: id(42, pieces.length > 2 ? 2 : -1),
      charsmap: charsmap === undefined ? new Uint8Array(0) : this.#bytes(charsmap),
      addDummyPrefix: this.#number(normalizer, 3, 1) !== 0,
      removeExtraWhitespaces: this.#number(normalizer, 4, 1) !== 0,
    }
  }

  #fail(field: WireField | undefined, received: string): never {
    failOnModel(this.#file, field === undefined ? received : `${received} at byte ${field.at}`)
  }

  #bytes(field: WireField): Uint8Array {
    if (typeof field.value === 'number') this.#fail(field, `${kindOf(field.value)} for field ${field.number}`)
    return field.value
  }

  /** Of a field that stands twice the last one counts. */
  #fields(field: WireField): ReadonlyMap<number, WireField> {
    const found = new Map<number, WireField>()
    for (const inner of wireFields(this.#bytes(field), field.at)) found.set(inner.number, inner)
    return found
  }

  #number(fields: ReadonlyMap<number, WireField>, number: number, otherwise: number): number {
    const field = fields.get(number)
    if (field === undefined) return otherwise
    if (typeof field.value !== 'number') this.#fail(field, `bytes for field ${number}`)
    return field.value
  }

  #piece(field: WireField): SentencePiece {
    const fields = this.#fields(field)
    const score = this.#number(fields, 2, 0)
    const type = pieceTypes[this.#number(fields, 3, 1)]
    const text = fields.get(1)
    if (!Number.isFinite(score)) this.#fail(field, `a piece with the score ${score}`)
    if (type === undefined) this.#fail(field, `a piece of the unknown type ${this.#number(fields, 3, 1)}`)
    if (text === undefined) this.#fail(field, 'a piece without a text')
    let piece: string
    try {
      piece = decoder.decode(this.#bytes(text))
    } catch (error) {
      if (error instanceof TypeError) this.#fail(text, 'a piece that is no UTF-8')
      throw error
    }
    if (piece === '' || piece.length > longestPiece) this.#fail(text, `a piece of ${piece.length} characters`)
    return { piece, score, type }
  }
}
