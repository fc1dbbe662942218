/** Text <-> token ids, for every tokenizer a checkpoint may bring. The ids are those of transformers' fast tokenizers. */
import { fail } from '../base/errors.js'
import type { SpecialIds, TokenizerSettings } from './tokenizerFiles.js'
import { findSpecialIds, readTokenizerSettings, specialText } from './tokenizerFiles.js'
import { readTokenizerSource } from './tokenizers/folder.js'
import { Pipeline } from './tokenizers/pipeline.js'

const noSettings: TokenizerSettings = {
  tokenizerConfig: {},
  specialTokensMap: {},
  generationConfig: {},
  modelConfig: {},
  chatTemplate: null,
}

/** Text that grows id by id. */
export interface TextDecoderStream {
  push(id: number): void
  /** Writes what is left; the stream is done then. */
  end(): void
}

export class Tokenizer implements SpecialIds {
  /** The folder it was loaded from, for copying its files along; null when it was made from JSON. */
  readonly folder: string | null
  /** One more than the largest id. */
  readonly vocabSize: number
  readonly bosId: number | null
  readonly eosId: number | null
  readonly eosIds: readonly number[]
  readonly padId: number | null
  readonly bosToken: string | null
  readonly eosToken: string | null
  /** The Jinja source of the chat template, if there is one. */
  readonly chatTemplate: string | null
  /** The file it stands in. */
  readonly chatTemplateFile: string | null
  /** The tokens that are found in a text as a whole, such as <|im_end|>. */
  readonly addedTokens: readonly string[]
  readonly #pipeline: Pipeline
  readonly #unknownId: number | null

  private constructor(folder: string | null, pipeline: Pipeline, settings: TokenizerSettings) {
    this.folder = folder
    this.#pipeline = pipeline
    this.vocabSize = pipeline.vocabSize
    const special = findSpecialIds(settings, (token) => pipeline.idOf(token))
    this.bosId = special.bosId
    this.eosId = special.eosId
    this.eosIds = special.eosIds
    this.padId = special.padId
    this.bosToken = specialText(settings, 'bos_token')
    this.eosToken = specialText(settings, 'eos_token')
    this.chatTemplate = settings.chatTemplate
    this.chatTemplateFile = settings.chatTemplateFile ?? null
    this.addedTokens = pipeline.addedTokens
    const unknown = specialText(settings, 'unk_token')
    this.#unknownId = pipeline.unknownId ?? (unknown === null ? null : pipeline.idOf(unknown))
  }

  /**
   * Loads the tokenizer of a model folder: tokenizer.json, or vocab.json with merges.txt, or SentencePiece's
   * tokenizer.model, with the configuration files around it. Errors name the file and what is wrong.
   */
  static async load(folder: string): Promise<Tokenizer> {
    const tokenizer = await Tokenizer.tryLoad(folder)
    if (tokenizer !== null) return tokenizer
    fail(
      'tokenizer',
      `tokenizer.json, vocab.json with merges.txt, or tokenizer.model in ${folder}`,
      'no such file',
      'a model folder with a tokenizer, or rows {input_ids}',
    )
  }

  /** Like load, but null where the folder has no tokenizer: the model then works on {input_ids} alone. */
  static async tryLoad(folder: string): Promise<Tokenizer | null> {
    const settings = await readTokenizerSettings(folder)
    const source = await readTokenizerSource(folder, settings)
    if (source === null) return null
    const { tokenizerConfig } = settings
    const pipeline = new Pipeline(source.json, source.file, tokenizerConfig['split_special_tokens'] === true)
    // A class knows its special tokens where the configuration does not name them.
    return new Tokenizer(folder, pipeline, { ...settings, tokenizerConfig: { ...source.tokens, ...tokenizerConfig } })
  }

  /** Makes a tokenizer from the parsed content of a tokenizer.json. */
  static fromJson(json: unknown, settings: Partial<TokenizerSettings> = {}): Tokenizer {
    return new Tokenizer(null, new Pipeline(json, 'tokenizer.json'), { ...noSettings, ...settings })
  }

  /**
   * Text to ids. With `special`, the ids the tokenizer adds around every text (BOS, sometimes EOS) are there too.
   * Special tokens written out in the text ("<|endoftext|>") become their ids either way, as in transformers.
   */
  encode(text: string, options: { readonly special: boolean }): Int32Array {
    const ids = this.#pipeline.encode(text)
    const { before, after } = this.#pipeline.surroundings
    return options.special && before.length + after.length > 0 ? Int32Array.from([...before, ...ids, ...after]) : ids
  }

  /**
   * The ids of a prompt, ready to be continued: BOS and the like before the text as the tokenizer adds them (not twice
   * where a chat template wrote them already), nothing after it.
   */
  encodePrompt(text: string): Int32Array {
    const ids = this.encode(text, { special: false })
    const { before } = this.#pipeline.surroundings
    if (before.length === 0 || startsWith(ids, before)) return ids
    return Int32Array.from([...before, ...ids])
  }

  /**
   * The ids of a text that continues `before`, such as an answer behind its prompt: no special ids, and no space that the
   * tokenizer would put before a text that stands alone. They are what a model writes behind the ids of the prompt.
   */
  encodeBehind(before: ArrayLike<number>, text: string): Int32Array {
    return before.length === 0 ? this.#pipeline.encode(text) : this.#pipeline.encodeBehind(before[before.length - 1]!, text)
  }

  /** True when the tokenizer itself ends every text with an id of its own (EOS or a separator). */
  get addsEnd(): boolean {
    return this.#pipeline.surroundings.after.length > 0
  }

  /** Ids to text. An id outside the vocabulary is an error. No ids give the empty text. */
  decode(ids: Iterable<number>, options: { readonly skipSpecial: boolean }): string {
    let text = ''
    const stream = this.decoder(options, (piece) => {
      text += piece
    })
    let empty = true
    for (const id of ids) {
      stream.push(id)
      empty = false
    }
    if (!empty) stream.end()
    return text
  }

  /** Decodes id by id: `write` gets every piece of text as soon as no later id can change it. */
  decoder(options: { readonly skipSpecial: boolean }, write: (piece: string) => void): TextDecoderStream {
    const pipeline = this.#pipeline
    const sink = pipeline.decoder(write)
    let position = 0
    return {
      push: (id) => {
        const token = Number.isInteger(id) ? pipeline.textOf(id) : null
        if (token === null) {
          const expected = `a token id below ${this.vocabSize} at position ${position}`
          fail('tokenizer', expected, String(id), 'the tokenizer the ids were made with')
        }
        position++
        if (!(options.skipSpecial && pipeline.isSpecial(id))) sink.token(token, pipeline.isAdded(id))
      },
      end: () => sink.end(),
    }
  }

  /** The id of a token's exact text, or null. */
  idOf(token: string): number | null {
    return this.#pipeline.idOf(token)
  }

  /** The text a token stands for in the vocabulary ("Ġthe"), or null for an id that is not used. */
  tokenOf(id: number): string | null {
    return this.#pipeline.tokenOf(id)
  }

  /** True for <s>, <|im_end|> and the like, which decode leaves out with skipSpecial. */
  isSpecial(id: number): boolean {
    return this.#pipeline.isSpecial(id)
  }

  /** What text becomes that the vocabulary cannot spell, or null. */
  get unknownId(): number | null {
    return this.#unknownId
  }
}

function startsWith(ids: Int32Array, prefix: readonly number[]): boolean {
  return prefix.length <= ids.length && prefix.every((id, index) => ids[index] === id)
}
