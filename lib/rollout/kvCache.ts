// A paged KV cache: pages of `pageSize` tokens, a block table per sequence, one pool for all sequences.
import { fail } from '../base/errors.js'
import type { CacheTensors, Decoder } from '../model/decoder.js'

export class KvCache {
  readonly tensors: CacheTensors
  #free: number[]

  /** `pages` pages of `pageSize` tokens for every layer of `model`. */
  constructor(
    model: Decoder,
    readonly pages: number,
    readonly pageSize: number,
  ) {
    const { device, dtype, spec } = model
    const make = () => device.alloc({ dtype, shape: [pages, pageSize, spec.kvHeads, spec.headDim], category: 'kvCache' })
    this.tensors = { keys: model.layers.map(make), values: model.layers.map(make) }
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i)
  }

  get freePages(): number {
    return this.#free.length
  }

  /** Pages that `tokens` tokens need. */
  pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageSize)
  }

  /** Extends `table` until it covers `tokens` tokens. */
  reserve(table: number[], tokens: number): void {
    while (table.length * this.pageSize < tokens) {
      const page = this.#free.pop()
      if (page === undefined) fail('rollout', `room for ${tokens} tokens in the KV cache`, `none of ${this.pages} pages free`, 'a smaller batch')
      table.push(page)
    }
  }

  /** The slot of token `index` of the sequence with this table. */
  slot(table: readonly number[], index: number): number {
    return table[Math.floor(index / this.pageSize)]! * this.pageSize + (index % this.pageSize)
  }

  release(table: number[]): void {
    this.#free.push(...table.splice(0).reverse())
  }

  dispose(): void {
    for (const t of [...this.tensors.keys, ...this.tensors.values]) t.dispose()
  }
}
