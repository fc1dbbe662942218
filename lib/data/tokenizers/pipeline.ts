/**
 * The whole way from a text to ids and back, as a tokenizer.json describes it: added tokens, normalizer, pre-tokenizer,
 * model, post-processor, decoder. The ids are those of Python `tokenizers`.
 */
import { fail, ThreefoldError } from '../../base/errors.js'
import type { AddedToken, StretchStart } from './addedTokens.js'
import { AddedTokens } from './addedTokens.js'
import { spaceAtStart } from './codePoints.js'
import type { MakeDecoder, TextSink } from './decoders.js'
import { readDecoder } from './decoders.js'
import type { Vocabulary } from './modelJson.js'
import { largestId, readModel } from './modelJson.js'
import type { Normalize } from './normalizers.js'
import { readNormalizer } from './normalizers.js'
import { Place } from './place.js'
import type { Surroundings } from './postProcessor.js'
import { readPostProcessor } from './postProcessor.js'
import type { CutWords } from './preTokenizers.js'
import { readPreTokenizer } from './preTokenizers.js'
import { IdBuffer } from './wordCache.js'

/** Buffers that grew beyond this for one long text are let go. */
const keptIds = 1 << 16
/** No answer is as long; a decoder that writes a novel for every token would fill the memory. */
const longestText = 1 << 26

export class Pipeline {
  /** One more than the largest id. */
  readonly vocabSize: number
  /** The ids that stand before and after every text. */
  readonly surroundings: Surroundings
  readonly #vocabulary: Vocabulary
  readonly #byContent: ReadonlyMap<string, AddedToken>
  readonly #byId: ReadonlyMap<number, AddedToken>
  readonly #added: AddedTokens
  readonly #cut: CutWords
  readonly #makeDecoder: MakeDecoder
  #out = new IdBuffer()

  /**
   * Reads the parsed content of a tokenizer.json; errors name file and field. With `splitSpecial`, special tokens written
   * in a text are plain text.
   */
  constructor(json: unknown, file: string, splitSpecial = false) {
    const place = new Place(json, file)
    place.object()
    this.#vocabulary = readModel(place.field('model'))
    const normalize = readNormalizer(place.field('normalizer'))
    this.#byContent = readAddedTokens(place.field('added_tokens'), this.#vocabulary, normalize)
    this.#byId = new Map(Array.from(this.#byContent.values(), (token) => [token.id, token]))
    this.vocabSize = Array.from(this.#byId.keys()).reduce((size, id) => Math.max(size, id + 1), this.#vocabulary.tokens.length)
    this.#added = new AddedTokens([...this.#byContent.values()], normalize, splitSpecial)
    const { bytes, cutter } = readPreTokenizer(place.field('pre_tokenizer'))
    const { model } = this.#vocabulary
    this.#cut = cutter((text, from, to) => model.encode(text, from, to, bytes, this.#out))
    this.surroundings = readPostProcessor(place.field('post_processor'), (id) => this.tokenOf(id) !== null)
    this.#makeDecoder = readDecoder(place.field('decoder'))
  }

  /** The ids of a text alone. A surrogate without its other half is read as U+FFFD. */
  encode(text: string): Int32Array {
    return this.#encode(text, 'text')
  }

  /** The ids of a text that stands behind others, the last of which is `before`: what a model writes there. */
  encodeBehind(before: number, text: string): Int32Array {
    const token = this.#byId.get(before)
    if (token === undefined) return this.#encode(text, 'joined')
    return this.#encode(token.rstrip ? text.slice(spaceAtStart(text, 0)) : text, 'token')
  }

  #encode(text: string, start: StretchStart): Int32Array {
    const whole = /\p{Surrogate}/u.test(text) ? text.replaceAll(/\p{Surrogate}/gu, '\ufffd') : text
    if (this.#out.ids.length > keptIds) this.#out = new IdBuffer()
    this.#out.length = 0
    this.#added.split(whole, start, this.#cut, (id) => this.#out.push(id))
    return this.#out.taken()
  }

  idOf(token: string): number | null {
    return this.#byContent.get(token)?.id ?? this.#vocabulary.ids.get(token) ?? null
  }

  tokenOf(id: number): string | null {
    return this.#byId.get(id)?.content ?? this.#vocabulary.tokens[id] ?? null
  }

  /** What the model gives for a word it cannot spell; null where it refuses one. */
  get unknownId(): number | null {
    return this.#vocabulary.unknownId
  }

  /** What a token adds to a decoded text, before the decoder changes it; null for an id that is not used. */
  textOf(id: number): string | null {
    return this.#byId.get(id)?.text ?? this.#vocabulary.tokens[id] ?? null
  }

  isSpecial(id: number): boolean {
    return this.#byId.get(id)?.special ?? false
  }

  get addedTokens(): string[] {
    return [...this.#byContent.keys()]
  }

  /** True for a token that stands for its own text, whatever the decoder does to others. */
  isAdded(id: number): boolean {
    return this.#byId.has(id)
  }

  /** A decoder at the start of a text; `write` gets the text as soon as it is certain. */
  decoder(write: (text: string) => void): TextSink {
    let length = 0
    const checked = (text: string): void => {
      length += text.length
      if (length > longestText) fail('tokenizer', `a decoded text of at most ${longestText} characters`, 'more', 'the tokenizer.json that came with the model, or fewer ids')
      write(text)
    }
    return this.#makeDecoder({ token: checked, part: checked, end: () => undefined })
  }
}

/**
 * Added tokens by their text. A token that is not in the model's vocabulary has the next free id, as `tokenizers` gives
 * it out: a file that says otherwise would be read differently there.
 */
function readAddedTokens(place: Place, { ids, tokens }: Vocabulary, normalize: Normalize | null): Map<string, AddedToken> {
  const found = new Map<string, AddedToken>()
  const takenBy = new Map<number, string>()
  if (place.isMissing) return found
  let largest = -1
  for (const item of place.items()) {
    const content = item.field('content').string()
    if (/\p{Surrogate}/u.test(content)) item.field('content').fail('a token of whole characters', JSON.stringify(content))
    if (content === '') continue
    const id = item.field('id').count(largestId)
    const next = largest >= ids.size ? largest + 1 : ids.size
    const right = found.get(content)?.id ?? ids.get(content) ?? next
    if (id !== right) item.field('id').fail(`the id ${right} of ${JSON.stringify(content)}`)
    const other = takenBy.get(id) ?? tokens[id]
    if (other !== undefined && other !== content) item.field('id').fail('an id that no other token has', `${id}, which ${JSON.stringify(other)} has`)
    const special = item.field('special').booleanOr(false)
    const normalized = item.field('normalized').booleanOr(!special)
    found.set(content, {
      id,
      content,
      text: normalized && normalize !== null ? normalizedToken(item, content, normalize) : content,
      // Of a token that stands twice the later flags count, but a special one stays special.
      special: special || (found.get(content)?.special ?? false),
      singleWord: item.field('single_word').booleanOr(false),
      lstrip: item.field('lstrip').booleanOr(false),
      rstrip: item.field('rstrip').booleanOr(false),
      normalized,
    })
    takenBy.set(id, content)
    largest = Math.max(largest, id)
  }
  return found
}

/** A normalizer that fails on a token is an error of the file, not of a text. */
function normalizedToken(place: Place, content: string, normalize: Normalize): string {
  try {
    return normalize(content)
  } catch (error) {
    if (error instanceof ThreefoldError) return place.field('content').fail(error.expected, error.received)
    throw error
  }
}
