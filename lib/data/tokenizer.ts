/** Text <-> token ids, over the kept library @huggingface/tokenizers. */
import path from 'node:path'
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { fail } from '../base/errors.js'
import { pathExists, readJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import type { SpecialIds, TokenizerSettings } from './tokenizerFiles.js'
import { findSpecialIds, readTokenizerSettings, specialText } from './tokenizerFiles.js'

const noSettings: TokenizerSettings = {
  tokenizerConfig: {},
  specialTokensMap: {},
  generationConfig: {},
  modelConfig: {},
  chatTemplate: null,
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
  readonly #library: Library
  readonly #unknownId: number | null
  /** Ids that the tokenizer puts before and after every text (BOS; EOS or a separator). */
  readonly #before: Int32Array
  readonly #after: Int32Array

  private constructor(folder: string | null, library: Library, facts: ModelFacts, settings: TokenizerSettings) {
    this.folder = folder
    this.#library = library
    this.vocabSize = facts.vocabSize
    this.#unknownId = facts.unknownToken === null ? null : (library.token_to_id(facts.unknownToken) ?? null)
    const special = findSpecialIds(settings, (token) => library.token_to_id(token) ?? null)
    this.bosId = special.bosId
    this.eosId = special.eosId
    this.eosIds = special.eosIds
    this.padId = special.padId
    this.bosToken = specialText(settings, 'bos_token')
    this.eosToken = specialText(settings, 'eos_token')
    this.chatTemplate = settings.chatTemplate
    ;[this.#before, this.#after] = surroundings(library)
  }

  /** Loads tokenizer.json and the files around it. Errors name the folder and what is wrong. */
  static async load(folder: string): Promise<Tokenizer> {
    const tokenizer = await Tokenizer.tryLoad(folder)
    if (tokenizer !== null) return tokenizer
    fail('tokenizer', `tokenizer.json in ${folder}`, 'no such file', 'a model folder with a tokenizer, or rows {input_ids}')
  }

  /** Like load, but null where the folder has no tokenizer.json: the model then works on {input_ids} alone. */
  static async tryLoad(folder: string): Promise<Tokenizer | null> {
    const file = path.join(folder, 'tokenizer.json')
    if (!(await pathExists(file))) return null
    return Tokenizer.#build(folder, await readJson(file), await readTokenizerSettings(folder), file)
  }

  /** Makes a tokenizer from the parsed content of a tokenizer.json. */
  static fromJson(json: unknown, settings: Partial<TokenizerSettings> = {}): Tokenizer {
    return Tokenizer.#build(null, json, { ...noSettings, ...settings }, 'tokenizer.json')
  }

  static #build(folder: string | null, json: unknown, settings: TokenizerSettings, file: string): Tokenizer {
    const cure = 'the tokenizer.json that came with the model'
    if (!isJsonObject(json)) fail('tokenizer', `a JSON object in ${file}`, kindOf(json), cure)
    const facts = modelFacts(json)
    // The library takes an unknown kind for a plain list of words, and would then encode nonsense.
    if (!modelTypes.includes(facts.type)) {
      fail('tokenizer', `a model type of ${modelTypes.join(', ')} in ${file}`, JSON.stringify(facts.type), cure)
    }
    if (facts.vocabSize === 0) fail('tokenizer', `a vocabulary in ${file}`, 'none in "model"."vocab"', cure)
    const whole = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...json }
    let library: Library
    try {
      // The library's default would change spaces before punctuation: decoding must give the text back.
      library = new Library(whole, { ...settings.tokenizerConfig, clean_up_tokenization_spaces: false })
    } catch (error) {
      fail('tokenizer', `a tokenizer that can be built from ${file}`, String(error), cure)
    }
    return new Tokenizer(folder, library, facts, settings)
  }

  /**
   * Text to ids. With `special`, the ids the tokenizer adds around every text (BOS, sometimes EOS) are there too.
   * Special tokens written out in the text ("<|endoftext|>") become their ids either way, as in transformers.
   */
  encode(text: string, options: { readonly special: boolean }): Int32Array {
    // The library gives undefined, whatever its types say, for a piece that is not in the vocabulary.
    const { ids, tokens }: { ids: (number | undefined)[]; tokens: string[] } = this.#library.encode(text, {
      add_special_tokens: options.special,
    })
    return Int32Array.from(ids, (id, position) => {
      const known = id ?? this.#unknownId
      if (known !== null) return known
      fail(
        'tokenizer',
        'text that the vocabulary can spell',
        JSON.stringify(tokens[position]),
        'a tokenizer with an unknown token',
      )
    })
  }

  /**
   * The ids of a prompt, ready to be continued: BOS and the like before the text as the tokenizer adds them (not twice
   * where a chat template wrote them already), nothing after it.
   */
  encodePrompt(text: string): Int32Array {
    const ids = this.encode(text, { special: false })
    return startsWith(ids, this.#before) ? ids : Int32Array.from([...this.#before, ...ids])
  }

  /** True when the tokenizer itself ends every text with an id of its own (EOS or a separator). */
  get addsEnd(): boolean {
    return this.#after.length > 0
  }

  /** Ids to text. An id outside the vocabulary is an error. No ids give the empty text. */
  decode(ids: Iterable<number>, options: { readonly skipSpecial: boolean }): string {
    const list = Array.from(ids)
    if (list.length === 0) return ''
    for (const [position, id] of list.entries()) {
      if (!Number.isInteger(id) || this.#library.id_to_token(id) === undefined) {
        fail(
          'tokenizer',
          `a token id below ${this.vocabSize} at position ${position}`,
          String(id),
          'the tokenizer the ids were made with',
        )
      }
    }
    return this.#library.decode(list, { skip_special_tokens: options.skipSpecial })
  }

  /** The id of a token's exact text, or null. */
  idOf(token: string): number | null {
    return this.#library.token_to_id(token) ?? null
  }

  /** The text a token stands for in the vocabulary ("Ġthe"), or null for an id that is not used. */
  tokenOf(id: number): string | null {
    return this.#library.id_to_token(id) ?? null
  }
}

const modelTypes: readonly string[] = ['BPE', 'WordPiece', 'Unigram', 'WordLevel']

interface ModelFacts {
  readonly type: string
  /** One more than the largest id; 0 where there is no vocabulary. */
  readonly vocabSize: number
  readonly unknownToken: string | null
}

/** "model"."vocab" is an object token -> id (BPE, WordPiece, WordLevel) or a list in id order (Unigram). */
function modelFacts(json: Readonly<Record<string, unknown>>): ModelFacts {
  const model = isJsonObject(json['model']) ? json['model'] : {}
  const { vocab, type, unk_token: unknown } = model
  const added: unknown[] = Array.isArray(json['added_tokens']) ? json['added_tokens'] : []
  let vocabSize = Array.isArray(vocab) ? vocab.length : 0
  const take = (id: unknown): void => {
    if (typeof id === 'number' && id >= vocabSize) vocabSize = id + 1
  }
  if (isJsonObject(vocab)) for (const id of Object.values(vocab)) take(id)
  for (const token of added) if (isJsonObject(token)) take(token['id'])
  // Old files name no type; those are byte-pair models.
  return { type: typeof type === 'string' ? type : 'BPE', vocabSize, unknownToken: typeof unknown === 'string' ? unknown : null }
}

/** Finds what the tokenizer adds before and after a text by comparing one text with and without. */
function surroundings(library: Library): [Int32Array, Int32Array] {
  const plain: number[] = library.encode('a', { add_special_tokens: false }).ids
  const whole: number[] = library.encode('a', { add_special_tokens: true }).ids
  for (let start = 0; start + plain.length <= whole.length; start++) {
    if (plain.length > 0 && plain.every((id, index) => whole[start + index] === id)) {
      return [Int32Array.from(whole.slice(0, start)), Int32Array.from(whole.slice(start + plain.length))]
    }
  }
  return [new Int32Array(0), new Int32Array(0)]
}

function startsWith(ids: Int32Array, prefix: Int32Array): boolean {
  return prefix.length <= ids.length && prefix.every((id, index) => ids[index] === id)
}
