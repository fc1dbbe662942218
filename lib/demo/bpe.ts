/** Byte-level BPE, trained in a moment on a small corpus, in the format of Hugging Face's tokenizer.json. */
import { fail } from '../base/errors.js'

export interface TrainedTokenizer {
  /** The content of tokenizer.json. */
  readonly tokenizer: Readonly<Record<string, unknown>>
  /** The content of tokenizer_config.json. */
  readonly config: Readonly<Record<string, unknown>>
  /** Number of ids, special tokens included; smaller than asked for when the corpus has no pair left to merge. */
  readonly vocabSize: number
}

export const endToken = '<|endoftext|>'
export const padToken = '<|pad|>'
const specialTokens = [endToken, padToken]

/** GPT-2's pre-tokenizer: what the ByteLevel pre-tokenizer with use_regex does before merges apply. */
const pieces = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

/**
 * GPT-2's bytes_to_unicode: each byte has a visible character; bytes that are not printable take those from U+0100 on.
 * Source: openai/gpt-2, src/encoder.py.
 */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  let shifted = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : shifted++))
}

/** One distinct piece of text: its symbols so far and how often it occurs. */
interface Piece {
  symbols: string[]
  readonly count: number
}

/**
 * Trains a tokenizer of at most `vocabSize` ids: 2 special tokens, 256 bytes, the rest merges of the most frequent
 * neighbours (ties: the pair that sorts first). A digit merges with a space before it
 * at most, so every number is spelt digit by digit.
 * The result depends on the texts and vocabSize alone. Source: Sennrich, Haddow, Birch, arXiv:1508.07909.
 */
export function trainBpe(texts: Iterable<string>, vocabSize: number): TrainedTokenizer {
  const smallest = specialTokens.length + 256
  if (!Number.isInteger(vocabSize) || vocabSize < smallest) fail('trainBpe', `a vocabulary of at least ${smallest}`, String(vocabSize), '768')
  const characters = byteCharacters()
  const words = countPieces(texts, characters)
  const tokens = [...specialTokens, ...characters]
  const merges: [string, string][] = []
  while (tokens.length < vocabSize) {
    const best = mostFrequentPair(words)
    if (best === null) break
    const [left, right] = best
    merges.push(best)
    tokens.push(left + right)
    for (const word of words) mergePair(word, left, right)
  }
  return { tokenizer: tokenizerJson(tokens, merges), config: tokenizerConfig(), vocabSize: tokens.length }
}

function countPieces(texts: Iterable<string>, characters: readonly string[]): Piece[] {
  const counts = new Map<string, number>()
  for (const text of texts) {
    for (const piece of text.match(pieces) ?? []) counts.set(piece, (counts.get(piece) ?? 0) + 1)
  }
  const encoder = new TextEncoder()
  return Array.from(counts, ([piece, count]) => ({ symbols: Array.from(encoder.encode(piece), (byte) => characters[byte]!), count }))
}

/** A digit may merge with the space before it, never with another digit or anything else. */
function joinsDigits(left: string, right: string): boolean {
  return /\d/.test(left) || (/\d/.test(right) && left !== 'Ġ')
}

function mostFrequentPair(words: readonly Piece[]): [string, string] | null {
  const counts = new Map<string, number>()
  for (const { symbols, count } of words) {
    for (let i = 1; i < symbols.length; i++) {
      if (joinsDigits(symbols[i - 1]!, symbols[i]!)) continue
      // No byte character is a space, so the joined key is unambiguous.
      const key = `${symbols[i - 1]!} ${symbols[i]!}`
      counts.set(key, (counts.get(key) ?? 0) + count)
    }
  }
  let best: string | null = null
  let most = 1
  for (const [key, count] of counts) {
    if (count > most || (count === most && best !== null && key < best)) [best, most] = [key, count]
  }
  return best === null ? null : (best.split(' ') as [string, string])
}

function mergePair(word: Piece, left: string, right: string): void {
  const { symbols } = word
  if (!symbols.includes(left)) return
  const merged: string[] = []
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) merged.push(left + symbols[++i]!)
    else merged.push(symbols[i]!)
  }
  word.symbols = merged
}

function tokenizerJson(tokens: readonly string[], merges: readonly (readonly [string, string])[]): Record<string, unknown> {
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({ id, content, ...special })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => `${left} ${right}`),
    },
  }
}

function tokenizerConfig(): Record<string, unknown> {
  return {
    add_prefix_space: false,
    bos_token: endToken,
    eos_token: endToken,
    pad_token: padToken,
    clean_up_tokenization_spaces: false,
    model_max_length: 128,
    tokenizer_class: 'PreTrainedTokenizerFast',
  }
}
