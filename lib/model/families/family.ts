// What a family is: config.json -> numbers, and where each parameter lies in the stock weights. To add one, write a file
// like opt.ts and list it in registry.ts.
import type { ConfigReader } from '../config.js'
import type { DecoderSpec } from '../spec.js'

/**
 * Where the elements of a parameter [rows, columns] (a vector has one column) lie in a stock tensor: element (r, c) is
 * number offset + floor(r / block) * blockStride + (r % block) * rowStride + c * columnStride of it.
 */
export interface Lies {
  offset: number
  block: number
  blockStride: number
  rowStride: number
  columnStride: number
}

/** A parameter's place: the stock tensor with its whole shape, and how it lies in it. */
export interface Place {
  /** "{i}" is the layer. */
  name: string
  shape: readonly number[]
  lies: Lies
}

/** Where a parameter of this shape is stored. */
export type Stored = (shape: readonly number[], spec: DecoderSpec) => Place

export interface Family {
  /** model_type in config.json. */
  type: string
  /** Class names written to "architectures" by the two heads. */
  architectures: { logprob: string; scalar: string }
  /** Leading part of the names that files saved without a head leave out. */
  prefix: string
  spec(config: ConfigReader): DecoderSpec
  /** Our names, or all before the last dot, to stock names, "{i}" is the layer; or to a place within a stock tensor. */
  weights: Readonly<Record<string, string | Stored>>
}

const columnsOf = (shape: readonly number[]): number => shape[1] ?? 1

/** As it is. */
export function whole(name: string): Stored {
  return (shape) => ({ name, shape, lies: { offset: 0, block: shape[0]!, blockStride: 0, rowStride: columnsOf(shape), columnStride: 1 } })
}

/** Stored [in, out], as the Conv1D of GPT-2; or columns [from, from + rows) of such a tensor with `total` columns. */
export function transposed(name: string, part?: (spec: DecoderSpec) => { from: number; total: number }): Stored {
  return (shape, spec) => {
    const [rows, columns] = [shape[0]!, columnsOf(shape)]
    const { from, total } = part?.(spec) ?? { from: 0, total: rows }
    const vector = shape.length === 1
    return { name, shape: vector ? [total] : [columns, total], lies: { offset: from, block: rows, blockStride: 0, rowStride: 1, columnStride: vector ? 1 : total } }
  }
}

/** Rows [from, from + rows) of a tensor of `total` rows. */
export function rowsOf(name: string, part: (spec: DecoderSpec) => { from: number; total: number }): Stored {
  return (shape, spec) => {
    const columns = columnsOf(shape)
    const { from, total } = part(spec)
    return { name, shape: [total, ...shape.slice(1)], lies: { offset: from * columns, block: shape[0]!, blockStride: 0, rowStride: columns, columnStride: 1 } }
  }
}

/** Number `which` of `of` tensors whose rows are stored in turns of `turn` rows each: q, k and v of each head in BLOOM. */
export function inTurns(name: string, which: number, of: number, turn: (spec: DecoderSpec) => number): Stored {
  return (shape, spec) => {
    const columns = columnsOf(shape)
    const block = turn(spec)
    return { name, shape: [of * shape[0]!, ...shape.slice(1)], lies: { offset: which * block * columns, block, blockStride: of * block * columns, rowStride: columns, columnStride: 1 } }
  }
}
