// tokenizer.json of every model type, with what a command does to it: load, encode, decode.
import path from 'node:path'
import { ThreefoldError } from '../../lib/base/errors.js'
import { Tokenizer } from '../../lib/data/tokenizer.js'
import type { TokenizerFixture } from '../lib/data/tokenizers/support.js'
import { fixture } from '../lib/data/tokenizers/support.js'
import type { FuzzTarget } from './target.js'

const texts = ['', ' ', "The quick brown fox, it's 12345!\n\n  don't", 'Straße ΣΑΣ 中文 👍🏽 e\u0301', '<s>[CLS]<|endoftext|> a', 'a'.repeat(3000), ' \n'.repeat(1500)]

/** The files of a fixture, the named one first. */
export function seedOf(name: string, first: string): Map<string, Uint8Array> {
  const files = Object.entries(fixture<TokenizerFixture>(name).files).map(([file, text]): [string, Uint8Array] => [file, Buffer.from(text, 'base64')])
  return new Map(files.sort(([a], [b]) => Number(b === first) - Number(a === first)))
}

/** Encodes and decodes. A text that the vocabulary cannot spell, or a pattern that takes too long, is an error of the text. */
export function exercise(tokenizer: Tokenizer): void {
  for (const text of texts) {
    try {
      const ids = tokenizer.encode(text, { special: true })
      tokenizer.decode(ids, { skipSpecial: false })
      tokenizer.encodePrompt(text)
    } catch (error) {
      if (!(error instanceof ThreefoldError)) throw error
    }
  }
}

export const target: FuzzTarget = {
  name: 'tokenizer.json',
  seeds: () => Promise.resolve(['bytelevel', 'unigram', 'wordpiece', 'added-tokens', 'llama3', 'llama-file', 'qwen2'].map((name) => seedOf(name, 'tokenizer.json'))),
  async read(file) {
    const tokenizer = await Tokenizer.load(path.dirname(file))
    exercise(tokenizer)
    return tokenizer
  },
}
