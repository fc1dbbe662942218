// Ids and texts of transformers 5 (test/oracle/tokenizer_cases.py), for every kind of tokenizer a checkpoint may bring.
import test from 'ava'
import { TokenStream } from '../../../../lib/data/tokenStream.js'
import type { Tokenizer } from '../../../../lib/data/tokenizer.js'
import { Pipeline } from '../../../../lib/data/tokenizers/pipeline.js'
import type { TokenizerFixture } from './support.js'
import { fixture, fixtureTokenizer, tokenizerNames } from './support.js'

function streamed(tokenizer: Tokenizer, ids: readonly number[]): string {
  const stream = new TokenStream(tokenizer, { skipSpecial: false })
  return ids.map((id) => stream.push(id)).join('') + stream.end()
}

for (const name of tokenizerNames()) {
  test(`${name}: the ids of transformers, and its texts`, async (t) => {
    const expected = fixture<TokenizerFixture>(name)
    const tokenizer = await fixtureTokenizer(t, name)
    t.like(tokenizer, { vocabSize: expected.size, bosId: expected.bos, eosId: expected.eos })
    t.true(expected.texts.length > 190)
    for (const [i, text] of expected.texts.entries()) {
      t.deepEqual([...tokenizer.encode(text, { special: false })], expected.plain[i], text)
      t.deepEqual([...tokenizer.encode(text, { special: true })], expected.special[i], text)
      const decoded = expected.decoded[i]
      if (typeof decoded === 'string') {
        t.is(tokenizer.decode(expected.plain[i]!, { skipSpecial: false }), decoded)
        t.is(streamed(tokenizer, expected.plain[i]!), decoded)
      }
      if (expected.skipped !== undefined) t.is(tokenizer.decode(expected.special[i]!, { skipSpecial: true }), expected.skipped[i])
    }
    for (const [i, ids] of (expected.sequences ?? []).entries()) {
      t.is(tokenizer.decode(ids, { skipSpecial: false }), expected.sequenceTexts![i]!, `ids ${ids.join(' ')}`)
      t.is(streamed(tokenizer, ids), expected.sequenceTexts![i]!)
    }
  })
}

test('parts put together at random: the ids of the tokenizers library', (t) => {
  interface Case {
    readonly json: unknown
    readonly texts: readonly string[]
    readonly ids: readonly (readonly number[])[]
    readonly sequences: readonly (readonly number[])[]
    readonly decoded: readonly string[]
  }
  const cases = fixture<readonly Case[]>('pipelines')
  t.true(cases.length >= 100)
  for (const { json, texts, ids, sequences, decoded } of cases) {
    const pipeline = new Pipeline(json, 'tokenizer.json')
    const about = (text: unknown): string => `${JSON.stringify(text)} with ${JSON.stringify({ ...(json as object), model: null })}`
    for (const [i, text] of texts.entries()) t.deepEqual([...pipeline.encode(text)], ids[i], about(text))
    for (const [i, sequence] of sequences.entries()) {
      let text = ''
      const sink = pipeline.decoder((piece) => (text += piece))
      for (const id of sequence) sink.token(pipeline.textOf(id)!, pipeline.isAdded(id))
      sink.end()
      t.is(text, decoded[i]!, about(sequence))
    }
  }
})

test('a prompt has what stands before every text, once', async (t) => {
  const llama = await fixtureTokenizer(t, 'spm-llama')
  t.deepEqual([...llama.encodePrompt('Hi')], [llama.bosId, ...llama.encode('Hi', { special: false })])
  t.deepEqual([...llama.encodePrompt('<s>Hi')], [...llama.encode('<s>Hi', { special: false })])
  t.is(llama.addsEnd, false)
  const unigram = await fixtureTokenizer(t, 'unigram')
  t.true(unigram.addsEnd)
  t.deepEqual([...unigram.encodePrompt('Hi')].slice(0, 1), [unigram.bosId])
})

test('a surrogate without its other half is read as U+FFFD', async (t) => {
  for (const name of ['bytelevel', 'unigram', 'spm-llama']) {
    const tokenizer = await fixtureTokenizer(t, name)
    for (const [odd, plain] of [['\ud83d', '\ufffd'], ['a\udc00b', 'a\ufffdb'], ['\udc00\ud83d\ude00\ud83d', '\ufffd\ud83d\ude00\ufffd']] as const) {
      t.deepEqual([...tokenizer.encode(odd, { special: false })], [...tokenizer.encode(plain, { special: false })])
    }
  }
})
