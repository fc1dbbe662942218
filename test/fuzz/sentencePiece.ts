// SentencePiece's tokenizer.model, of every class that is converted.
import path from 'node:path'
import { Tokenizer } from '../../lib/data/tokenizer.js'
import type { FuzzTarget } from './target.js'
import { exercise, seedOf } from './tokenizerJson.js'

export const target: FuzzTarget = {
  name: 'tokenizer.model',
  seeds: () => Promise.resolve(['spm-llama', 'spm-gemma', 'spm-plain-unigram', 'spm-plain-bpe', 'spm-t5'].map((name) => seedOf(name, 'tokenizer.model'))),
  async read(file) {
    const tokenizer = await Tokenizer.load(path.dirname(file))
    exercise(tokenizer)
    return tokenizer
  },
}
