import { Tokenizer as Library } from '@huggingface/tokenizers'
import test from 'ava'
import fc from 'fast-check'
import { RandomSequence } from '../../../../lib/base/random.js'
import { Bpe } from '../../../../lib/data/tokenizers/bpe.js'
import { Merger, MergeTable } from '../../../../lib/data/tokenizers/merges.js'
import { Pipeline } from '../../../../lib/data/tokenizers/pipeline.js'
import { IdBuffer, WordCache } from '../../../../lib/data/tokenizers/wordCache.js'
import { holds } from '../../property.js'
import type { TokenizerFixture } from './support.js'
import { fixture } from './support.js'

function tokenizerJson(name: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(fixture<TokenizerFixture>(name).files['tokenizer.json']!, 'base64').toString()) as Record<string, unknown>
}

// U+0085 and U+FEFF are left out: JavaScript's \s, which the other library uses, has the wrong one of the two.
const anyUnit = fc.oneof(
  fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
  fc.constantFrom(...Array.from("aeths  \n\t\r\u0000\u0007'123.,!?-é中あ한\u0301\u0308\u200d👍🏽🇩🇪"), '\ud83d', '\udc00', '<|endoftext|>', "'ll", '  ', '\r\n'),
)
const anyText = fc.array(anyUnit, { maxLength: 40 }).map((units) => units.join('').replaceAll(/[\u0085\ufeff]/g, ''))

for (const name of ['bytelevel', 'llama3', 'o200k']) {
  test(`${name}: the ids of another library, whatever the text`, (t) => {
    const json = tokenizerJson(name)
    const ours = new Pipeline(json, 'tokenizer.json')
    const library = new Library(json as never, { clean_up_tokenization_spaces: false })
    const same = fc.property(anyText, (text) => {
      // The other library leaves lone surrogates to its encoder, which makes them U+FFFD as well.
      const { ids } = library.encode(text.toString(), { add_special_tokens: false }) as { ids: number[] }
      return JSON.stringify([...ours.encode(text)]) === JSON.stringify(ids)
    })
    holds(t, same, 1500)
  })
}

/** Merges as the definition says it: the lowest rank anywhere, the leftmost of equals, again and again. */
function mergedByDefinition(merges: readonly (readonly [number, number, number])[], word: readonly number[]): number[] {
  const symbols = [...word]
  for (;;) {
    let best = -1
    let lowest = Infinity
    for (let i = 0; i + 1 < symbols.length; i++) {
      const rank = merges.findLastIndex(([left, right]) => left === symbols[i] && right === symbols[i + 1])
      if (rank >= 0 && rank < lowest) [best, lowest] = [i, rank]
    }
    if (best < 0) return symbols
    symbols.splice(best, 2, merges[lowest]![2])
  }
}

test('short and long words merge as the definition says', (t) => {
  for (let seed = 0; seed < 60; seed++) {
    const random = new RandomSequence(seed, 3)
    const merges: [number, number, number][] = []
    let tokens = 4
    for (let i = 0; i < 30; i++) merges.push([random.below(tokens), random.below(tokens), random.below(5) === 0 ? random.below(tokens) : tokens++])
    const merger = new Merger(new MergeTable(merges))
    // 48 symbols are scanned, more are queued.
    for (const length of [0, 1, 2, 7, 33, 47, 48, 49, 50, 120, 400]) {
      const word = Array.from({ length }, () => random.below(4))
      const symbols = Int32Array.from(word)
      const count = merger.merge(symbols, length)
      t.deepEqual([...symbols.subarray(0, count)], mergedByDefinition(merges, word), `seed ${seed} length ${length}`)
    }
  }
})

test('the cache forgets when it is full, and never gives the ids of another word', (t) => {
  const vocab = new Map(Array.from('abcdefghij', (character, id) => [character, id]))
  const bpe = new Bpe({ vocab, merges: [], unknownToken: null, fuseUnknown: false, byteFallback: false, continuingPrefix: '', endSuffix: '', ignoreMerges: false })
  const random = new RandomSequence(5, 1)
  const wrong: string[] = []
  for (let i = 0; i < 150_000; i++) {
    const word = Array.from({ length: 1 + random.below(7) }, () => 'abcdefghij'[random.below(10)]).join('')
    const out = new IdBuffer()
    bpe.encode(`x${word}x`, 1, 1 + word.length, false, out)
    if (Array.from(out.taken(), (id) => 'abcdefghij'[id]).join('') !== word) wrong.push(word)
  }
  t.deepEqual(wrong, [])
  const cache = new WordCache()
  const out = new IdBuffer()
  // Two words of one hash.
  out.push(7)
  cache.add('one', 0, 3, 99, out, 0)
  t.false(cache.find('two', 0, 3, 99, out))
  t.true(cache.find('one', 0, 3, 99, out))
  t.deepEqual([...out.taken()], [7, 7])
  for (let i = 0; i < 200_000; i++) cache.add(`${i}`, 0, `${i}`.length, WordCache.hash(`${i}`, 0, `${i}`.length), out, 0)
  t.true(cache.size <= 1 << 16)
  t.true(cache.find('199999', 0, 6, WordCache.hash('199999', 0, 6), out))
  t.false(cache.find('5', 0, 1, WordCache.hash('5', 0, 1), out))
})

test('a character that cannot be spelled is the unknown token, or an error', (t) => {
  const json = (unknown: string | null): unknown => ({ model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, '?': 3 }, merges: ['a b'], unk_token: unknown } })
  t.deepEqual([...new Pipeline(json('?'), 'tokenizer.json').encode('abxab')], [2, 3, 2])
  t.throws(() => new Pipeline(json(null), 'tokenizer.json').encode('abxab'), { message: /text that the vocabulary can spell, received "x"/ })
  t.throws(() => new Pipeline(json('!'), 'tokenizer.json').encode('x'), { message: /the unknown token in the vocabulary, received "!"/ })
})
