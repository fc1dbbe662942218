/** "model" of a tokenizer.json -> vocabulary and model. */
import type { Place } from './place.js'
import { Bpe } from './bpe.js'
import type { Model } from './model.js'
import { Unigram } from './unigram.js'
import { WordLevel, WordPiece } from './words.js'

export interface Vocabulary {
  readonly ids: ReadonlyMap<string, number>
  /** By id; undefined where no token has it. */
  readonly tokens: readonly (string | undefined)[]
  readonly model: Model
  /** What a word becomes that the vocabulary cannot spell; null where it is refused. */
  readonly unknownId: number | null
}

const modelTypes = ['BPE', 'WordPiece', 'Unigram', 'WordLevel']
/** Far above any vocabulary, and small enough that an id from a broken file does not ask for gigabytes. */
export const largestId = 1 << 24
/** At every place of a text, pieces are followed as far as they go. */
const longestPiece = 1000
/** Half a character: no text has one. */
const surrogate = /\p{Surrogate}/u

export function readModel(model: Place): Vocabulary {
  const type = model.field('type').isMissing ? guessType(model) : model.field('type').string()
  if (!modelTypes.includes(type)) model.field('type').fail(`a model type of ${modelTypes.join(', ')}`)
  if (type === 'Unigram') return readUnigram(model)
  const { ids, tokens } = readVocab(model.field('vocab'))
  const vocab = ids
  const unknownToken = model.field('unk_token').stringOr(null)
  if (type === 'WordLevel') return { ids, tokens, model: new WordLevel({ vocab, unknownToken }), unknownId: idOrNull(vocab, unknownToken) }
  if (type === 'WordPiece') {
    const continuingPrefix = model.field('continuing_subword_prefix').stringOr('##')
    const maxCharacters = model.field('max_input_chars_per_word').countOr(100, Number.MAX_SAFE_INTEGER)
    const parts = { vocab, unknownToken: unknownToken ?? '[UNK]', continuingPrefix, maxCharacters }
    return { ids, tokens, model: new WordPiece(parts), unknownId: idOrNull(vocab, parts.unknownToken) }
  }
  const dropout = model.field('dropout')
  if (!dropout.isMissing && dropout.value !== 0) dropout.fail('no dropout (it would make ids random)')
  const continuingPrefix = model.field('continuing_subword_prefix').stringOr('')
  const bpe = new Bpe({
    vocab,
    unknownToken,
    continuingPrefix,
    merges: readMerges(model.field('merges'), vocab, continuingPrefix),
    fuseUnknown: model.field('fuse_unk').booleanOr(false),
    byteFallback: model.field('byte_fallback').booleanOr(false),
    endSuffix: model.field('end_of_word_suffix').stringOr(''),
    ignoreMerges: model.field('ignore_merges').booleanOr(false),
  })
  return { ids, tokens, model: bpe, unknownId: idOrNull(vocab, unknownToken) }
}

function idOrNull(vocab: ReadonlyMap<string, number>, token: string | null): number | null {
  return token === null ? null : (vocab.get(token) ?? null)
}

/** Old files name no type. */
function guessType(model: Place): string {
  if (Array.isArray(model.field('vocab').value)) return 'Unigram'
  if (!model.field('merges').isMissing) return 'BPE'
  return model.field('max_input_chars_per_word').isMissing ? 'BPE' : 'WordPiece'
}

function readVocab(place: Place): { ids: Map<string, number>; tokens: (string | undefined)[] } {
  const ids = new Map<string, number>()
  const tokens: (string | undefined)[] = []
  if (place.isMissing) place.fail('a vocabulary', 'none')
  for (const [token, value] of Object.entries(place.object())) {
    const id = typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= largestId ? value : place.field(token).count(largestId)
    if (surrogate.test(token)) place.field(token).fail('a token of whole characters', JSON.stringify(token))
    const other = tokens[id]
    if (other !== undefined) place.field(token).fail('an id that no other token has', `${id}, which ${JSON.stringify(other)} has`)
    ids.set(token, id)
    tokens[id] = token
  }
  if (ids.size === 0) place.fail('a vocabulary', 'an empty one')
  return { ids, tokens }
}

/** "a b" or ["a", "b"] each. Errors: a part, or what it merges to, that is not in the vocabulary. */
function readMerges(place: Place, vocab: ReadonlyMap<string, number>, continuingPrefix: string): [number, number, number][] {
  const merges: [number, number, number][] = []
  for (const [index, merge] of listOf(place, true).entries()) {
    if (typeof merge === 'string' && merge.startsWith('#version')) continue
    const pair = typeof merge === 'string' ? merge.split(' ') : merge
    if (!isPairOf(pair, 'string')) return place.item(index).fail('two tokens to merge')
    const [left, right] = pair
    const merged = left + right.slice(right.startsWith(continuingPrefix) ? continuingPrefix.length : 0)
    const idOf = (token: string): number => vocab.get(token) ?? place.item(index).fail('tokens of the vocabulary', JSON.stringify(token))
    merges.push([idOf(left), idOf(right), idOf(merged)])
  }
  return merges
}

function readUnigram(model: Place): Vocabulary {
  const vocab = model.field('vocab')
  const ids = new Map<string, number>()
  const pieces = listOf(vocab, false).map((entry, id): [string, number] => {
    if (!isPairOf(entry, 'number') || !Number.isFinite(entry[1])) return vocab.item(id).fail('a piece and its score')
    if (surrogate.test(entry[0])) vocab.item(id).fail('a piece of whole characters', JSON.stringify(entry[0]))
    if (entry[0].length > longestPiece) vocab.item(id).fail(`a piece of at most ${longestPiece} characters`, `${entry[0].length} characters`)
    ids.set(entry[0], id)
    return entry
  })
  if (pieces.length === 0) vocab.fail('a vocabulary', 'an empty one')
  const unknown = model.field('unk_id')
  const unknownId = unknown.isMissing ? null : unknown.count()
  if (unknownId !== null && unknownId >= pieces.length) unknown.fail(`an id below ${pieces.length}`)
  const byteFallback = model.field('byte_fallback').booleanOr(false)
  // Ours, for models that are read as SentencePiece itself reads them.
  const float32 = model.field('float32').booleanOr(false)
  return { ids, tokens: pieces.map(([piece]) => piece), model: new Unigram({ pieces, unknownId, byteFallback, float32 }), unknownId }
}

/** Read without a Place for each of many thousand items. */
function listOf(place: Place, mayMiss: boolean): readonly unknown[] {
  if (Array.isArray(place.value)) return place.value as unknown[]
  return mayMiss && place.isMissing ? [] : place.fail('a list', place.isMissing ? 'none' : undefined)
}

function isPairOf(value: unknown, second: 'string'): value is [string, string]
function isPairOf(value: unknown, second: 'number'): value is [string, number]
function isPairOf(value: unknown, second: 'string' | 'number'): boolean {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && typeof value[1] === second
}
