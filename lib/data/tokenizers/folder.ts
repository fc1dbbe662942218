/** Finds the tokenizer in a model folder, in whatever files it stands, and gives it the form of a tokenizer.json. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../../base/errors.js'
import { failOnFile, pathExists, readJson, readJsonIfThere } from '../../base/files.js'
import { isJsonObject, kindOf } from '../../base/json.js'
import { byteCharacters } from './byteCharacters.js'
import type { ClassRecipe } from './classes.js'
import { classOf, declaredClass, recipeOf, tokenText } from './classes.js'
import { Place } from './place.js'
import { parseSentencePiece } from './sentencePiece.js'
import { convertSentencePiece } from './sentencePieceJson.js'

type Json = Readonly<Record<string, unknown>>

export interface TokenizerSource {
  /** In the form of a tokenizer.json. */
  readonly json: Json
  /** Named in errors. */
  readonly file: string
  /** The named special tokens with the defaults of the class: bos_token and so on. */
  readonly tokens: Readonly<Record<string, string>>
}

/** The names of transformers, in the order in which new tokens get their ids. */
const namedTokens = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token']

export interface Configs {
  readonly tokenizerConfig: Json
  readonly specialTokensMap: Json
  readonly modelConfig: Json
}

/** Null where the folder has no tokenizer at all. */
export async function readTokenizerSource(folder: string, configs: Configs): Promise<TokenizerSource | null> {
  const there = (name: string): Promise<boolean> => pathExists(path.join(folder, name))
  if (await there('tokenizer.json')) return fromTokenizerJson(folder, configs)
  if ((await there('vocab.json')) && (await there('merges.txt'))) return fromVocabAndMerges(folder, configs)
  if (await there('tokenizer.model')) return fromSentencePiece(folder, configs)
  return null
}

async function fromTokenizerJson(folder: string, configs: Configs): Promise<TokenizerSource> {
  const file = path.join(folder, 'tokenizer.json')
  const json = await readJson(file)
  if (!isJsonObject(json)) fail('tokenizer', `a JSON object in ${file}`, kindOf(json), 'the tokenizer.json that came with the model')
  const { tokenizerConfig, modelConfig } = configs
  const recipe = recipeOf(classOf(tokenizerConfig, modelConfig, isByteLevel(json)), tokenizerConfig)
  const { model } = json
  // A class rebuilds what its own model type can hold; the file decides about everything else.
  const rebuilt = recipe !== null && isJsonObject(model) && model['type'] === recipe.modelType ? rebuild(json, model, recipe) : json
  const own = rebuilt === json ? listOf(json['added_tokens'], file) : []
  const decoder = tokenizerConfig['added_tokens_decoder']
  const added = decoder === undefined ? await legacyTokens(folder, configs, listOf(json['added_tokens'], file)) : configuredTokens(decoder, folder)
  return finish(rebuilt, file, [...own, ...added], recipe?.tokens ?? {}, configs, {})
}

function isByteLevel({ pre_tokenizer, decoder, normalizer, post_processor }: Json): boolean {
  return [pre_tokenizer, decoder, normalizer, post_processor].some((part) => names(part, 'ByteLevel', 0))
}

/** True where a part of this type stands anywhere inside; parts nested very deep are refused later. */
function names(part: unknown, type: string, depth: number): boolean {
  if (typeof part !== 'object' || part === null || depth > 32) return false
  return ('type' in part && part.type === type) || Object.values(part).some((inner) => names(inner, type, depth + 1))
}

function rebuild(json: Json, model: Json, recipe: ClassRecipe): Json {
  const { vocab, merges } = model
  return {
    model: { type: recipe.modelType, ...recipe.model, vocab, merges },
    normalizer: recipe.normalizer,
    pre_tokenizer: recipe.preTokenizer,
    post_processor: json['post_processor'],
    decoder: recipe.decoder,
  }
}

/** Byte-level BPE as GPT-2 and OPT keep it: token -> id, and a merge a line. */
async function fromVocabAndMerges(folder: string, configs: Configs): Promise<TokenizerSource> {
  const file = path.join(folder, 'vocab.json')
  const vocab = await readJson(file)
  if (!isJsonObject(vocab)) fail('tokenizer', `a JSON object of tokens and ids in ${file}`, kindOf(vocab), 'the vocab.json that came with the model')
  const { tokenizerConfig, modelConfig } = configs
  const className = classOf(tokenizerConfig, modelConfig, false) ?? declaredClass(tokenizerConfig, modelConfig)
  const recipe = recipeOf(className, tokenizerConfig) ?? recipeOf('GPT2Tokenizer', tokenizerConfig)!
  const missing = byteCharacters.filter((character) => !Object.hasOwn(vocab, character))
  if (missing.length > 0) {
    const which = missing.length === 256 ? 'none of them' : `all but ${missing.length}`
    fail('tokenizer', `a byte-level vocabulary (the 256 characters of GPT-2 for bytes) in ${file}`, which, 'a model with a tokenizer.json')
  }
  const merges = await readMergesFile(path.join(folder, 'merges.txt'))
  const json = {
    model: { type: 'BPE', ...recipe.model, vocab, merges },
    normalizer: recipe.normalizer,
    pre_tokenizer: recipe.preTokenizer,
    decoder: recipe.decoder,
  }
  const decoder = tokenizerConfig['added_tokens_decoder']
  const added = decoder === undefined ? await legacyTokens(folder, configs, []) : configuredTokens(decoder, folder)
  return finish(json, file, added, recipe.tokens, configs, { around: true })
}

async function readMergesFile(file: string): Promise<[string, string][]> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    failOnFile(error, `to read ${file}`)
  }
  const lines = text.split(/\r?\n/)
  return lines.flatMap((line, index): [string, string][] => {
    if (line.startsWith('#version') || line === '') return []
    const parts = line.split(' ')
    if (parts.length === 2 && parts[0] !== '' && parts[1] !== '') return [[parts[0]!, parts[1]!]]
    return fail('tokenizer', `two tokens with a space between in ${file} line ${index + 1}`, JSON.stringify(line.slice(0, 60)), 'the merges.txt that came with the model')
  })
}

async function fromSentencePiece(folder: string, configs: Configs): Promise<TokenizerSource> {
  const file = path.join(folder, 'tokenizer.model')
  const { tokenizerConfig, modelConfig } = configs
  let bytes: Uint8Array
  try {
    bytes = await readFile(file)
  } catch (error) {
    failOnFile(error, `to read ${file}`)
  }
  const className = declaredClass(tokenizerConfig, modelConfig) ?? classOf(tokenizerConfig, modelConfig, false)
  const { recipe, model, addedTokens } = convertSentencePiece(parseSentencePiece(bytes, file), recipeOf(className, tokenizerConfig), className, file)
  const json = {
    model: { ...model, type: recipe.modelType },
    normalizer: recipe.normalizer,
    pre_tokenizer: recipe.preTokenizer,
    decoder: recipe.decoder,
    post_processor: recipe.postProcessor,
  }
  const decoder = tokenizerConfig['added_tokens_decoder']
  const added = decoder === undefined ? await legacyTokens(folder, configs, []) : configuredTokens(decoder, folder)
  return finish(json, file, added, recipe.tokens, configs, { around: recipe.postProcessor === undefined, pieces: addedTokens })
}

/** "added_tokens_decoder" of tokenizer_config.json: id -> token. */
function configuredTokens(decoder: unknown, folder: string): Json[] {
  const place = new Place(decoder, path.join(folder, 'tokenizer_config.json'), 'added_tokens_decoder')
  return Object.keys(place.object())
    .map((key) => {
      const id = Number(key)
      if (!Number.isInteger(id) || id < 0) place.field(key).fail('an id', JSON.stringify(key))
      return { ...place.field(key).object(), id }
    })
    .sort((a, b) => a.id - b.id)
}

/** Before added_tokens_decoder: added_tokens.json, text -> id, and the file's own tokens. */
async function legacyTokens(folder: string, { tokenizerConfig, specialTokensMap }: Configs, own: readonly Json[]): Promise<Json[]> {
  const file = path.join(folder, 'added_tokens.json')
  const place = new Place((await readJsonIfThere(file)) ?? {}, file)
  const special = new Set<string | null>()
  for (const source of [tokenizerConfig, specialTokensMap]) {
    for (const name of namedTokens) special.add(tokenText(source[name]))
    for (const token of extraTokens(source)) special.add(tokenText(token))
  }
  const listed = Object.keys(place.object()).map((content) => {
    const isSpecial = special.has(content)
    return { id: place.field(content).count(), content, special: isSpecial, normalized: !isSpecial }
  })
  return [...listed, ...own].sort((a, b) => idOf(a) - idOf(b))
}

/** -1 for what is no id: that is refused where the tokens are read. */
const idOf = ({ id }: Json): number => (typeof id === 'number' ? id : -1)

function extraTokens(source: Json): unknown[] {
  const list = source['extra_special_tokens'] ?? source['additional_special_tokens']
  return Array.isArray(list) ? list : isJsonObject(list) ? Object.values(list) : []
}

function listOf(value: unknown, file: string): Json[] {
  const place = new Place(value, file, 'added_tokens')
  return place.isMissing ? [] : place.items().map((item) => item.object())
}

interface FinishOptions {
  readonly around?: boolean
  /** Pieces of a SentencePiece model that are tokens of their own. */
  readonly pieces?: readonly Json[]
}

/**
 * Adds the special tokens that are only named (bos_token and the like), and BOS and EOS around every text where the
 * configuration asks for them: it is asked only where no tokenizer.json says what stands around a text.
 */
function finish(json: Json, file: string, added: readonly Json[], defaults: Readonly<Record<string, string>>, configs: Configs, options: FinishOptions): TokenizerSource {
  const { tokenizerConfig, specialTokensMap } = configs
  const vocab = vocabularyOf(json)
  const known = new Map<string, Json>()
  for (const token of added) {
    const text = tokenText(token)
    if (text !== null) known.set(text, token)
  }
  const tokens: Record<string, string> = {}
  const named: Json[] = []
  const add = (value: unknown, mustExist: boolean): void => {
    const content = tokenText(value)
    if (content === null || content === '' || known.has(content)) return
    const id = vocab.ids.get(content)
    if (id === undefined && mustExist) return
    const token = { normalized: false, ...(isJsonObject(value) ? value : {}), content, special: true, id: id ?? nextId(vocab.size, [...known.values()]) }
    known.set(content, token)
    named.push(token)
  }
  for (const name of namedTokens) {
    const value = tokenizerConfig[name] ?? specialTokensMap[name]
    const fallback = value === undefined ? defaults[name] : undefined
    add(value ?? fallback, value === undefined)
    const text = tokenText(value) ?? fallback
    if (text !== undefined && text !== null) tokens[name] = text
  }
  for (const token of [...extraTokens(tokenizerConfig), ...extraTokens(specialTokensMap)]) add(token, false)
  const all = [...added, ...named, ...(options.pieces ?? [])]
  const idOfText = (text: string): number => idOf(known.get(text) ?? { id: vocab.ids.get(text) })
  const withTokens = { ...json, added_tokens: all }
  return { json: options.around === true ? { ...withTokens, post_processor: template(tokens, tokenizerConfig, idOfText) } : withTokens, file, tokens }
}

function template(tokens: Readonly<Record<string, string>>, config: Json, idOf: (text: string) => number): Json {
  const bos = config['add_bos_token'] === true ? tokens['bos_token'] : undefined
  const eos = config['add_eos_token'] === true ? tokens['eos_token'] : undefined
  const special = (text: string | undefined): Json[] => (text === undefined ? [] : [{ SpecialToken: { id: text, type_id: 0 } }])
  return {
    type: 'TemplateProcessing',
    single: [...special(bos), { Sequence: { id: 'A', type_id: 0 } }, ...special(eos)],
    special_tokens: Object.fromEntries([bos, eos].flatMap((text) => (text === undefined ? [] : [[text, { id: text, ids: [idOf(text)], tokens: [text] }]]))),
  }
}

/** The id `tokenizers` gives to a token that is new. */
function nextId(size: number, added: readonly Json[]): number {
  const largest = added.reduce((most, { id }) => (typeof id === 'number' ? Math.max(most, id) : most), -1)
  return largest >= size ? largest + 1 : size
}

function vocabularyOf(json: Json): { ids: ReadonlyMap<string, unknown>; size: number } {
  const model = isJsonObject(json['model']) ? json['model'] : {}
  const { vocab } = model
  if (Array.isArray(vocab)) {
    const list: unknown[] = vocab
    // what is no piece is refused where the model is read; String() of a list as deep as the file would overflow the stack
    const pieces = list.map((entry) => (Array.isArray(entry) ? (entry as unknown[])[0] : entry))
    return { ids: new Map(pieces.flatMap((piece, id) => (typeof piece === 'string' ? [[piece, id]] : []))), size: list.length }
  }
  const entries = isJsonObject(vocab) ? Object.entries(vocab) : []
  return { ids: new Map(entries), size: entries.length }
}
