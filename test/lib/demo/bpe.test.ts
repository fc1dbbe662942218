import test from 'ava'
import { Tokenizer } from '@huggingface/tokenizers'
import { endToken, padToken, trainBpe } from '../../../lib/demo/bpe.js'
import { makeWorld } from '../../../lib/demo/world.js'

const world = makeWorld(1)
const trained = trainBpe(world.pretrainTexts, 768)
const library = new Tokenizer(trained.tokenizer, { ...trained.config, clean_up_tokenization_spaces: false })
const encode = (text: string): number[] => library.encode(text, { add_special_tokens: false }).ids

test('the same texts give the same tokenizer, within the vocabulary', (t) => {
  t.deepEqual(trainBpe(world.pretrainTexts, 768), trained)
  t.true(trained.vocabSize <= 768)
  t.is(trainBpe(world.pretrainTexts, 300).vocabSize, 300)
  t.throws(() => trainBpe([], 100), { message: /^\[trainBpe\] expected a vocabulary of at least 258, received 100\. Try / })
})

test('what is encoded decodes to itself, whatever the text', (t) => {
  const odd = ['', ' ', 'a  b', '  two spaces , and a comma .', "it's 13, don't\n\n\tstop", 'Grüße, 東京 🙂 e\u0301', '\u0000\u007f\u00a0\u00ad', '12345 67']
  for (const text of [...odd, ...world.pretrainTexts.slice(0, 300), ...world.testPrompts]) {
    if (text === '') t.deepEqual(encode(text), [])
    else t.is(library.decode(encode(text), { skip_special_tokens: false }), text)
  }
})

test('special tokens have ids 0 and 1 and are named in the config', (t) => {
  t.is(library.token_to_id(endToken), 0)
  t.is(library.token_to_id(padToken), 1)
  t.is(trained.config['eos_token'], endToken)
  t.is(trained.config['pad_token'], padToken)
})

test('no token holds two digits; common words are one token', (t) => {
  const tokens = Array.from({ length: trained.vocabSize }, (_, id) => library.id_to_token(id)!)
  t.deepEqual(tokens.filter((token) => /\d.*\d/.test(token) || /\d[^\d]|[^Ġ\d]\d/.test(token)), [])
  for (const word of [' what', ' the', ' colour', ' friend', ' plus', ' forest']) t.is(encode(word).length, 1, word)
})

test('prompts and answers are short', (t) => {
  const longest = (texts: string[]): number => Math.max(...texts.map((text) => encode(text).length))
  t.true(longest([...world.testPrompts, ...world.preferenceRows.map((row) => row.prompt)]) <= 24)
  // The end token is one more.
  t.true(longest(world.preferenceRows.flatMap((row) => [row.chosen, row.rejected])) + 1 <= 16)
})
