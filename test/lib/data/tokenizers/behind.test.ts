// A text behind others: an answer behind its prompt has the ids it has in the middle of a whole text.
import test from 'ava'
import { fixture, fixtureTokenizer } from './support.js'
import type { TokenizerFixture } from './support.js'

for (const name of ['spm-llama', 'spm-llama-legacy', 'llama-file', 'spm-gemma', 'gpt2-files', 'qwen2', 'unigram', 'added-tokens']) {
  test(`${name}: behind a token of its own`, async (t) => {
    const tokenizer = await fixtureTokenizer(t, name)
    const { texts } = fixture<TokenizerFixture>(name)
    const token = tokenizer.addedTokens.find((text) => tokenizer.encode(text, { special: false }).length === 1)!
    const before = tokenizer.encode(token, { special: false })
    for (const text of texts) {
      const whole = tokenizer.encode(token + text, { special: false })
      // Some texts begin with what makes a longer token of it.
      if (whole[0] !== before[0]) continue
      t.deepEqual([...before, ...tokenizer.encodeBehind(before, text)], [...whole], JSON.stringify(text))
    }
  })
}

test('in the middle of a text no space is put before it', async (t) => {
  for (const name of ['spm-llama', 'spm-llama-legacy', 'llama-file']) {
    const tokenizer = await fixtureTokenizer(t, name)
    // A line end is a byte of its own here and merges with nothing.
    const before = tokenizer.encode('Hi\n', { special: false })
    let compared = 0
    for (const text of ['Hello there', ' Hello', 'a', '中', '  two', '123 4', '👍🏽!']) {
      const whole = tokenizer.encode(`Hi\n${text}`, { special: false })
      if (!before.every((id, i) => whole[i] === id)) continue
      t.deepEqual([...tokenizer.encodeBehind(before, text)], [...whole.slice(before.length)], `${name} ${text}`)
      compared++
    }
    t.true(compared >= 5, name)
  }
  const plain = await fixtureTokenizer(t, 'spm-plain-unigram')
  const hi = plain.encode('the quick', { special: false })
  t.deepEqual([...hi, ...plain.encodeBehind(hi, ' brown fox')], [...plain.encode('the quick brown fox', { special: false })])
  const gpt2 = await fixtureTokenizer(t, 'gpt2-files')
  t.deepEqual(gpt2.encode('word', { special: false }), gpt2.encode(' word', { special: false }), 'add_prefix_space')
  const before = gpt2.encode('a', { special: false })
  t.not(gpt2.decode(gpt2.encodeBehind(before, 'word'), { skipSpecial: false })[0], ' ')
  t.deepEqual(gpt2.encodeBehind([], 'word'), gpt2.encode('word', { special: false }))
})
