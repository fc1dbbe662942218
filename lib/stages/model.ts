// Using a model: load a folder, generate, stream, score.
import { AsyncQueue } from '../base/asyncQueue.js'
import { fail } from '../base/errors.js'
import { readGenerationConfig } from '../checkpoint/generationConfig.js'
import type { GenerationConfig } from '../checkpoint/generationConfig.js'
import type { LoadedModel } from '../checkpoint/model.js'
import { packByTokens, packRows, splitPacked } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import type { Tokenizer } from '../data/tokenizer.js'
import { TokenStream } from '../data/tokenStream.js'
import { scoreLogprobs, scoreValues } from '../engine/logprobs.js'
import type { HubHooks } from '../hub/resolve.js'
import { generate, generateAll, rowSeed } from '../rollout/generate.js'
import type { GenerateOptions, GenerateRow } from '../rollout/generate.js'
import { StopTexts, cutAtStop } from '../rollout/stopText.js'
import { findModel, openModel } from './openModel.js'
import { plainDrawing } from './useOptions.js'
import { createDevice, defaultDtype } from '../tensor/device.js'
import type { DType, NativeDevice } from '../tensor/device.js'

export interface ModelOptions extends HubHooks {
  /** "cpu" (the default), "cuda", "cuda:N" or "emulated". */
  device?: string
  /** "fp32" (the default), "bf16" or "fp16". */
  dtype?: DType
  /** 0 = all cores (the default). Never changes a result. */
  threads?: number
}

/** What is left out, or null, the model's generation_config.json decides, and then the default that is named here. */
export interface SampleOptions {
  /** Longest answer in tokens; default 128. */
  maxNewTokens?: number | null
  /** Always the likeliest token; the same as temperature 0. */
  greedy?: boolean
  /** Default 1. */
  temperature?: number | null
  /** Keep the k likeliest tokens; 0 = off (the default). */
  topK?: number | null
  /** Keep the likeliest tokens up to this probability; 1 = off (the default). */
  topP?: number | null
  /** Keep tokens at least this likely relative to the likeliest; 0 = off (the default). */
  minP?: number | null
  /** Divides the logits of tokens in prompt and answer; 1 = off (the default). */
  repetitionPenalty?: number | null
  /** Taken from the logits of tokens that the answer has; 0 = off (the default). */
  presencePenalty?: number
  /** Added to the logits of single tokens; -Infinity: never drawn. */
  logitBias?: ReadonlyMap<number, number>
  /** Texts that end an answer; `text` is cut there. */
  stop?: string | readonly string[]
  /** Token ids that end an answer, beside the model's own end tokens. */
  stopIds?: readonly number[]
  /** Answers to each prompt, one after another; default 1. */
  numReturnSequences?: number
  /** Answers depend on it and the row's place alone; default 1234. */
  seed?: number
  /** A prompt's own seed, or null: its answers then do not depend on its place. */
  rowSeeds?: readonly (number | null)[]
  /** Answers decoded side by side, default 16. Never changes a result. */
  batchSize?: number
  /** generate: throws the signal's reason. stream: ends the answer where it is. */
  signal?: AbortSignal
  /** Stand in for the defaults. */
  fallback?: { maxNewTokens: number; temperature: number; topP: number }
}

/** One answer of n tokens. */
export interface Answer {
  /** [n] new tokens only, the end token included where it was drawn. */
  outputIds: Int32Array
  /** Up to the stop text; null without a tokenizer. */
  text: string | null
  /** [n] fp32, log-softmax(logits / temperature) before any top-k or top-p cut. */
  logprobs: Float32Array
  finish: 'stop' | 'length'
}

/** Ids [n], a text, or a prompt with a response. */
export type ScoreInput = Int32Array | string | { prompt: string; response: string }

/** Of a language model: logprobs [n-1], ln p(id[t+1] | id[0..t]). Of a reward model: values [n] and the last one as score. */
export type Score = { inputIds: Int32Array; logprobs: Float32Array } | { inputIds: Int32Array; values: Float32Array; score: number }

/** A model folder opened for use. Owns native memory: `using model = await Model.load(folder)`, or dispose(). */
export class Model implements Disposable {
  private constructor(
    private readonly device: NativeDevice,
    private readonly loaded: LoadedModel,
    /** What the checkpoint's makers want. */
    readonly generationConfig: GenerationConfig,
  ) {}

  /** Opens a folder in the Hugging Face layout, or a repository of the hub by its id. Errors name the folder, file or weight. */
  static async load(idOrPath: string, { device = 'cpu', dtype = defaultDtype(device), threads = 0, ...hub }: ModelOptions = {}): Promise<Model> {
    const { folder } = await findModel(idOrPath, hub)
    const opened = createDevice({ device, threads })
    try {
      const generationConfig = await readGenerationConfig(folder)
      return new Model(opened, await openModel(opened, idOrPath, { dtype }, hub), generationConfig)
    } catch (error) {
      opened.dispose()
      throw error
    }
  }

  /** Null when the folder has none: the model then works on ids. */
  get tokenizer(): Tokenizer | null {
    return this.loaded.tokenizer
  }

  /** True for a model with a scalar head: it scores, and cannot generate. */
  get isRewardModel(): boolean {
    return this.loaded.decoder.headKind === 'scalar'
  }

  get vocabSize(): number {
    return this.loaded.decoder.spec.vocab
  }

  /** The longest sequence in tokens, prompt and answer together. */
  get maxPositions(): number {
    return this.loaded.decoder.maxPositions
  }

  /**
   * One answer per prompt, in their order; with numReturnSequences n, n of the first prompt, then n of the next (for a
   * single prompt the first of them). A text is encoded with the tokenizer's special tokens in front.
   */
  generate(prompt: string | Int32Array, options?: SampleOptions): Promise<Answer>
  generate(prompts: readonly (string | Int32Array)[], options?: SampleOptions): Promise<Answer[]>
  async generate(prompts: string | Int32Array | readonly (string | Int32Array)[], options: SampleOptions = {}): Promise<Answer | Answer[]> {
    if (typeof prompts === 'string' || prompts instanceof Int32Array) return (await this.generate([prompts], options))[0]!
    const answers = new Array<Answer>(prompts.length * (options.numReturnSequences ?? 1))
    for await (const { index, answer } of this.answers(prompts, options)) answers[index] = answer
    return answers
  }

  /** As generate, each answer as soon as it is finished; `index` is its place among all. */
  async *answers(prompts: readonly (string | Int32Array)[], options: SampleOptions = {}): AsyncGenerator<{ index: number; answer: Answer }> {
    const stops = this.#stops(options)
    const watch = stops.length > 0 ? new StopTexts(this.#need('stop texts'), stops) : null
    const rows = this.#rows(prompts, options)
    const settings = { ...this.#settings(options), ...(watch && { stop: (i: number, token: number) => watch.push(i, token) }) }
    for await (const { index, ids, logprobs, finish } of generate(this.loaded.decoder, rows, settings)) {
      const text = this.tokenizer && cutAtStop(this.tokenizer.decode(ids, { skipSpecial: true }), stops)
      yield { index, answer: { outputIds: ids, text, logprobs, finish } }
    }
  }

  /**
   * The text of one answer, piece by piece as it is drawn; the pieces add up to generate's text. What could be the
   * beginning of a stop text is held back until it is known. Leaving the loop ends the work.
   */
  async *stream(prompt: string | Int32Array, options: SampleOptions = {}): AsyncGenerator<string> {
    const tokenizer = this.#need('a stream of text')
    const stops = this.#stops(options)
    const text = new TokenStream(tokenizer)
    const pieces = new AsyncQueue<string>()
    let held = ''
    let found = false
    let left = false
    const stop = (_: number, token: number): boolean => {
      held += text.push(token)
      const cut = cutAtStop(held, stops)
      found = cut !== held
      const sure = found ? cut.length : held.length - startOfStop(held, stops)
      pieces.push(held.slice(0, sure))
      held = held.slice(sure)
      return found || left || (options.signal?.aborted ?? false)
    }
    const { signal: _, ...settings } = this.#settings(options)
    const done = generateAll(this.loaded.decoder, this.#rows([prompt], { ...options, numReturnSequences: 1 }), { ...settings, stop }).then(
      () => {
        if (!found) pieces.push(cutAtStop(held + text.end(), stops))
        pieces.end()
      },
      (error: unknown) => pieces.fail(error),
    )
    try {
      for await (const piece of pieces) if (piece !== '') yield piece
    } finally {
      left = true
      await done
    }
  }

  /** Scores of rows, in their order; packed into passes of about `batchTokens` tokens, which never changes a result. */
  async score(rows: readonly ScoreInput[], options: { batchTokens?: number; signal?: AbortSignal } = {}): Promise<Score[]> {
    const out: Score[] = []
    for await (const scores of this.scores(rows, options)) out.push(...scores)
    return out
  }

  /** As score, one pass at a time. Errors: ids outside the vocabulary, rows over the model's positions. */
  async *scores(rows: readonly ScoreInput[], { batchTokens = 4096, signal }: { batchTokens?: number; signal?: AbortSignal } = {}): AsyncGenerator<Score[]> {
    const all = rows.map((row, i) => this.#tokenRow(row, i))
    const longest = all.reduce((n, { ids }) => Math.max(n, ids.length), batchTokens)
    for (const pack of packByTokens({ length: all.length, tokens: (row) => all[row]!.ids.length }, longest)) {
      signal?.throwIfAborted()
      const batch = Array.from(pack, (i) => all[i]!)
      yield this.isRewardModel ? await this.#values(batch) : await this.#logprobs(batch)
    }
  }

  async #logprobs(rows: readonly TokenRow[]): Promise<Score[]> {
    const batch = packRows(rows)
    // a batch of single tokens predicts nothing
    const flat = batch.countedTotal > 0 ? await scoreLogprobs(this.loaded.decoder, batch) : new Float32Array(0)
    let at = 0
    return rows.map(({ ids }) => ({ inputIds: ids, logprobs: flat.slice(at, (at += ids.length - 1)) }))
  }

  async #values(rows: readonly TokenRow[]): Promise<Score[]> {
    const batch = packRows(rows)
    const flat = await scoreValues(this.loaded.decoder, batch, Int32Array.from(batch.ids.keys()))
    return splitPacked(flat, batch.starts).map((values, i) => ({ inputIds: rows[i]!.ids, values: values.slice(), score: values.at(-1)! }))
  }

  #tokenRow(row: ScoreInput, index: number): TokenRow {
    const ids = this.#scoreIds(row)
    if (ids.length === 0) fail('score', 'rows of at least one token', `an empty one (row ${index})`, 'leaving the row out')
    const bad = ids.findIndex((id) => id < 0 || id >= this.vocabSize)
    if (bad >= 0) fail('score', `token ids from 0 to ${this.vocabSize - 1}`, `${ids[bad]} at position ${bad} of row ${index}`, "the model's own tokenizer")
    if (ids.length > this.maxPositions) fail('score', `rows of at most the model's ${this.maxPositions} positions`, `${ids.length} tokens (row ${index})`, 'a shorter row')
    const counted = new Uint8Array(ids.length).fill(1)
    counted[0] = 0
    return { ids, counted }
  }

  #scoreIds(row: ScoreInput): Int32Array {
    if (row instanceof Int32Array) return row
    const tokenizer = this.#need('text')
    if (typeof row === 'string') return tokenizer.encode(row, { special: true })
    return Int32Array.from([...tokenizer.encodePrompt(row.prompt), ...tokenizer.encode(row.response, { special: false })])
  }

  #promptIds(prompt: string | Int32Array): Int32Array {
    if (prompt instanceof Int32Array) return prompt
    const tokenizer = this.#need('text')
    const ids = tokenizer.encodePrompt(prompt)
    const start = tokenizer.bosId ?? tokenizer.eosId
    return ids.length > 0 || start === null ? ids : Int32Array.of(start)
  }

  #rows(prompts: readonly (string | Int32Array)[], { seed = 1234, rowSeeds, numReturnSequences: samples = 1 }: SampleOptions): GenerateRow[] {
    if (rowSeeds && rowSeeds.length !== prompts.length) fail('generate', `one of rowSeeds for each of ${prompts.length} prompts`, String(rowSeeds.length), 'null for a prompt without one')
    if (!Number.isInteger(samples) || samples < 1) fail('generate', 'numReturnSequences of 1 or more', String(samples), '1')
    return prompts.flatMap((p, i) => {
      const ids = this.#promptIds(p)
      const own = rowSeeds?.[i] ?? null
      return Array.from({ length: samples }, (_, k): GenerateRow => ({ ids, seed: own === null ? rowSeed(seed, i, k) : rowSeed(own, 0, k) }))
    })
  }

  #settings(options: SampleOptions): GenerateOptions {
    const { generationConfig: config, loaded } = this
    const { greedy = false, batchSize = 16, signal, fallback = plainDrawing } = options
    const maxNewTokens = options.maxNewTokens ?? config.maxNewTokens ?? fallback.maxNewTokens
    if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) fail('generate', 'maxNewTokens of 1 or more', String(maxNewTokens), '128')
    const stopIds = options.stopIds ?? []
    const wrong = stopIds.find((id) => !Number.isInteger(id) || id < 0 || id >= this.vocabSize)
    if (wrong !== undefined) fail('generate', `stop ids from 0 to ${this.vocabSize - 1}`, String(wrong), "ids of the model's own tokenizer")
    const banned = (config.banned ?? []).filter((id) => id < this.vocabSize).map((id): [number, number] => [id, -Infinity])
    return {
      maxNewTokens,
      temperature: greedy ? 0 : (options.temperature ?? config.temperature ?? fallback.temperature),
      topK: options.topK ?? config.topK ?? 0,
      topP: options.topP ?? config.topP ?? fallback.topP,
      minP: options.minP ?? config.minP ?? 0,
      repetitionPenalty: options.repetitionPenalty ?? config.repetitionPenalty ?? 1,
      presencePenalty: options.presencePenalty ?? 0,
      logitBias: new Map([...banned, ...(options.logitBias ?? [])]),
      eosIds: [...loaded.eosIds, ...stopIds],
      maxBatch: batchSize,
      pageSize: 16,
      ...(signal && { signal }),
    }
  }

  #stops({ stop }: SampleOptions): readonly string[] {
    const given = typeof stop === 'string' ? [stop] : (stop ?? [])
    return [...given, ...(this.tokenizer ? (this.generationConfig.stop ?? []) : [])].filter((s) => s !== '')
  }

  #need(what: string): Tokenizer {
    return this.tokenizer ?? fail('model', `a tokenizer in ${this.loaded.folder}, needed for ${what}`, 'none', 'rows of ids, or the files of its tokenizer in the model folder')
  }

  dispose(): void {
    this.loaded.dispose()
    this.device.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** How many characters at the end of `text` could be the beginning of a stop text. */
function startOfStop(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map((s) => s.length - 1))
  for (let n = Math.min(longest, text.length); n > 0; n--) if (stops.some((s) => s.startsWith(text.slice(text.length - n)))) return n
  return 0
}
