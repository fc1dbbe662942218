// Continuous batching: prompts wait, enter a slot with a packed prefill, decode one token a step, leave when finished;
// a freed slot is refilled at once. A sample depends on its prompt, its seed and the weights alone.
import { fail } from '../base/errors.js'
import { philox } from '../base/random.js'
import type { Decoder } from '../model/decoder.js'
import { native } from '../binding/native.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import { KvCache } from './kvCache.js'
import type { Draw, SamplingOptions } from './sampling.js'
import { Edits, checkSampling, sampleTokens } from './sampling.js'

export interface GenerateOptions extends SamplingOptions {
  maxNewTokens: number
  /** Ids that end an answer; the end token is part of it. */
  eosIds: readonly number[]
  /** Sequences decoded side by side. */
  maxBatch: number
  /** Tokens per page of the KV cache; never changes a result. */
  pageSize: number
  /** Ends a row after this token, e.g. at a stop string. Called for every token in order. */
  stop?: (index: number, token: number) => boolean
  signal?: AbortSignal
}

export interface GenerateRow {
  /** Prompt ids, at least one. */
  ids: Int32Array
  /** The row's own seed: with the position it decides each draw. */
  seed: bigint
}

export interface Generated {
  /** Which row. */
  index: number
  /** New tokens only, the end token included where it was drawn. */
  ids: Int32Array
  /** fp32 log-probs of the new tokens, before any cut. */
  logprobs: Float32Array
  finish: 'stop' | 'length'
}

interface Slot {
  index: number
  seed: bigint
  prompt: Int32Array
  /** Drawn so far. */
  ids: number[]
  logprobs: number[]
  pages: number[]
  edits: Edits | null
  /** Most tokens it may draw. */
  limit: number
}

/**
 * Seed of row `index` of a run, or of one of several samples of it: no two share random numbers. Sample 0 is what the row
 * would draw alone.
 */
export function rowSeed(seed: number, index: number, sample = 0): bigint {
  const own = BigInt.asUintN(64, BigInt(seed) ^ (BigInt(index) << 32n))
  if (sample === 0) return own
  const [low, high] = philox([sample, 0, 0, 0], [Number(own & 0xffffffffn), Number(own >> 32n)])
  return BigInt(low) | (BigInt(high) << 32n)
}

/** Yields finished rows as they finish. Errors: an empty prompt, a prompt that leaves no room, a cut that makes no sense. */
export async function* generate(decoder: Decoder, rows: readonly GenerateRow[], options: GenerateOptions): AsyncGenerator<Generated> {
  checkSampling(options, decoder.spec.vocab)
  for (const [i, { ids }] of rows.entries()) checkPrompt(decoder, ids, i)
  if (rows.length === 0) return
  const longest = Math.max(...rows.map((r) => Math.min(r.ids.length + options.maxNewTokens, decoder.maxPositions)))
  const slots = Math.min(options.maxBatch, rows.length)
  const cache = new KvCache(decoder, slots * Math.ceil(longest / options.pageSize), options.pageSize)
  try {
    const active: Slot[] = []
    for (let next = 0; next < rows.length || active.length > 0; ) {
      options.signal?.throwIfAborted()
      const entering: Slot[] = []
      while (next < rows.length && active.length + entering.length < slots) entering.push(enter(decoder, rows[next]!, next++, options))
      if (entering.length > 0) {
        await prefill(decoder, cache, entering, options)
        active.push(...entering)
      } else {
        await decode(decoder, cache, active, options)
      }
      // only slots that drew just now: `stop` sees each token once
      for (const slot of entering.length > 0 ? entering : [...active]) {
        const finish = finished(slot, options)
        if (!finish) continue
        active.splice(active.indexOf(slot), 1)
        cache.release(slot.pages)
        yield { index: slot.index, ids: Int32Array.from(slot.ids), logprobs: Float32Array.from(slot.logprobs), finish }
      }
    }
  } finally {
    cache.dispose()
  }
}

/** All rows, in their order. */
export async function generateAll(decoder: Decoder, rows: readonly GenerateRow[], options: GenerateOptions): Promise<Generated[]> {
  const out: Generated[] = new Array<Generated>(rows.length)
  for await (const row of generate(decoder, rows, options)) out[row.index] = row
  return out
}

function checkPrompt(decoder: Decoder, ids: Int32Array, index: number): void {
  if (ids.length === 0) fail('generate', 'prompts of at least one token', `an empty one (row ${index})`, 'a prompt with text, or a tokenizer that adds BOS')
  if (ids.length >= decoder.maxPositions)
    fail('generate', `prompts shorter than the model's ${decoder.maxPositions} positions`, `${ids.length} tokens (row ${index})`, 'a shorter prompt')
  const bad = ids.findIndex((id) => id < 0 || id >= decoder.spec.vocab)
  if (bad >= 0) fail('generate', `token ids from 0 to ${decoder.spec.vocab - 1}`, `${ids[bad]} at position ${bad} of row ${index}`, "the model's own tokenizer")
}

function enter(decoder: Decoder, row: GenerateRow, index: number, options: GenerateOptions): Slot {
  const limit = Math.min(options.maxNewTokens, decoder.maxPositions - row.ids.length)
  return { index, seed: row.seed, prompt: row.ids, ids: [], logprobs: [], pages: [], edits: Edits.of(row.ids, options), limit }
}

function finished(slot: Slot, options: GenerateOptions): Generated['finish'] | null {
  const last = slot.ids.at(-1)!
  if (options.eosIds.includes(last) || options.stop?.(slot.index, last)) return 'stop'
  return slot.ids.length >= slot.limit ? 'length' : null
}

/** Runs the prompts of new slots as one packed batch, fills their pages, draws their first tokens. */
async function prefill(decoder: Decoder, cache: KvCache, slots: readonly Slot[], options: GenerateOptions): Promise<void> {
  const starts = new Int32Array(slots.length + 1)
  for (const [i, s] of slots.entries()) starts[i + 1] = starts[i]! + s.prompt.length
  const total = starts[slots.length]!
  const ids = new Int32Array(total)
  const positions = new Int32Array(total)
  const cacheSlots = new Int32Array(total)
  for (const [i, s] of slots.entries()) {
    ids.set(s.prompt, starts[i])
    cache.reserve(s.pages, s.prompt.length)
    for (let t = 0; t < s.prompt.length; t++) {
      positions[starts[i]! + t] = t
      cacheSlots[starts[i]! + t] = cache.slot(s.pages, t)
    }
  }
  const all = decoder.forward({ ids, starts, positions, slots: cacheSlots }, null, cache.tensors)
  const hidden = native().gatherRows(decoder.device, { x: all, rows: starts.slice(1).map((end) => end - 1) })
  all.dispose()
  await draw(decoder, hidden, slots, options)
}

/** Feeds each slot its last token and draws the next. */
async function decode(decoder: Decoder, cache: KvCache, slots: readonly Slot[], options: GenerateOptions): Promise<void> {
  const lengths = Int32Array.from(slots, (s) => s.prompt.length + s.ids.length)
  for (const [i, s] of slots.entries()) cache.reserve(s.pages, lengths[i]!)
  const blocks = Math.max(...slots.map((s) => s.pages.length))
  const blockTable = new Int32Array(slots.length * blocks)
  for (const [i, s] of slots.entries()) blockTable.set(s.pages, i * blocks)
  const positions = lengths.map((n) => n - 1)
  const rows = {
    ids: Int32Array.from(slots, (s) => s.ids.at(-1)!),
    positions,
    slots: Int32Array.from(slots, (s, i) => cache.slot(s.pages, positions[i]!)),
    blockTable,
    lengths,
  }
  await draw(decoder, decoder.forward(rows, null, cache.tensors), slots, options)
}

/** Draws one token per slot from hidden [B, H], which it frees. */
async function draw(decoder: Decoder, hidden: Tensor, slots: readonly Slot[], options: GenerateOptions): Promise<void> {
  using scope = new Scope()
  scope.own(hidden)
  const draws: Draw[] = slots.map((s) => ({ seed: s.seed, position: s.prompt.length + s.ids.length, edits: s.edits }))
  const out = sampleTokens(decoder, hidden, draws, options)
  const [tokens, logprobs] = await Promise.all([scope.own(out.tokens).read(), scope.own(out.logprobs).read()])
  for (const [i, s] of slots.entries()) {
    s.ids.push(tokens[i]!)
    s.edits?.drew(tokens[i]!)
    s.logprobs.push(logprobs[i]!)
  }
}
