import { mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { Tokenizer } from '../../../lib/data/tokenizer.js'
import { copyTokenizer, readSpecialIds } from '../../../lib/data/tokenizerFiles.js'
import { TokenStream } from '../../../lib/data/tokenStream.js'
import { bosId, eosId, failsWith, temporaryFolder, tinyTokenizer, tokenizerConfig, tokenizerJson, vocabSize } from './support.js'
import { holds } from '../property.js'

const anyText = fc.string({ unit: 'grapheme', maxLength: 30 })

test('decode gives back what was encoded', (t) => {
  const tokenizer = tinyTokenizer()
  fc.assert(
    fc.property(anyText, (text) => {
      const ids = tokenizer.encode(text, { special: false })
      return ids instanceof Int32Array && tokenizer.decode(ids, { skipSpecial: false }) === text
    }),
  )
  t.is(tokenizer.decode([], { skipSpecial: true }), '')
  t.is(
    tokenizer.decode(tokenizer.encode(" don 't > [ .", { special: false }), { skipSpecial: true }),
    " don 't > [ .",
    'spaces stay',
  )
})

test('special tokens: around a text, in front of a prompt, never twice', (t) => {
  const tokenizer = tinyTokenizer()
  const [hello] = tokenizer.encode('hello', { special: false })
  t.is(tokenizer.tokenOf(hello!), 'hello')
  t.deepEqual([...tokenizer.encode('hello', { special: true })], [bosId, hello, eosId])
  t.deepEqual([...tokenizer.encodePrompt('hello')], [bosId, hello])
  t.deepEqual([...tokenizer.encodePrompt('<s>hello')], [bosId, hello])
  t.deepEqual([...tokenizer.encodePrompt('')], [bosId])
  t.true(tokenizer.addsEnd)
  t.is(tokenizer.decode([bosId, hello!, eosId], { skipSpecial: true }), 'hello')
  t.is(tokenizer.decode([bosId, hello!, eosId], { skipSpecial: false }), '<s>hello</s>')
  const plain = tinyTokenizer({ around: false })
  t.deepEqual([...plain.encodePrompt('hello')], [hello])
  t.false(plain.addsEnd)
})

test('special ids come from the tokenizer, then from the configs', (t) => {
  const tokenizer = tinyTokenizer()
  t.like(tokenizer, { vocabSize, bosId, eosId, padId: null, chatTemplate: null, bosToken: '<s>' })
  t.deepEqual(tokenizer.eosIds, [eosId])
  const fromConfigs = tinyTokenizer({
    settings: {
      tokenizerConfig: {},
      specialTokensMap: { bos_token: '<s>' },
      generationConfig: { eos_token_id: [7, 9] },
      modelConfig: { eos_token_id: 7, pad_token_id: 1 },
    },
  })
  t.like(fromConfigs, { bosId, eosId: 7, padId: 1 })
  t.deepEqual(fromConfigs.eosIds, [7, 9])
})

test('an id outside the vocabulary is an error', async (t) => {
  const tokenizer = tinyTokenizer()
  await failsWith(
    t,
    () => tokenizer.decode([1, vocabSize], { skipSpecial: true }),
    '[tokenizer]',
    `below ${vocabSize}`,
    'position 1',
  )
  await failsWith(t, () => tokenizer.decode([-1], { skipSpecial: true }), '-1')
})

test('a stream never prints half a character, and its pieces are the whole text', (t) => {
  const tokenizer = tinyTokenizer()
  fc.assert(
    fc.property(anyText, (text) => {
      const stream = new TokenStream(tokenizer)
      const pieces = Array.from(tokenizer.encode(text, { special: true }), (id) => stream.push(id))
      t.false(pieces.some((piece) => piece.includes('\ufffd') && !text.includes('\ufffd')))
      return pieces.join('') + stream.end() === text
    }),
  )
  const stream = new TokenStream(tokenizer)
  const bytes = [...tokenizer.encode('é!', { special: false })]
  t.deepEqual([stream.push(bytes[0]!), stream.push(bytes[1]!), stream.push(bytes[2]!)], ['', 'é', '!'])
})

test('any bytes at all stream to the same text as decoding them at once', (t) => {
  const tokenizer = tinyTokenizer()
  const adds = fc.property(fc.array(fc.nat(vocabSize - 1), { maxLength: 12 }), (ids) => {
    const stream = new TokenStream(tokenizer)
    const text = ids.map((id) => stream.push(id)).join('') + stream.end()
    return text === tokenizer.decode(ids, { skipSpecial: true })
  })
  holds(t, adds, 500)
})

test('loads a folder, copies its files, and says what is wrong with one', async (t) => {
  const folder = await temporaryFolder(t)
  t.is(await Tokenizer.tryLoad(folder), null)
  await failsWith(t, () => Tokenizer.load(folder), 'tokenizer.json', 'no such file')
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson()))
  await writeFile(
    path.join(folder, 'tokenizer_config.json'),
    JSON.stringify({ ...tokenizerConfig, chat_template: 'from config' }),
  )
  await writeFile(path.join(folder, 'chat_template.jinja'), 'from file')
  const tokenizer = await Tokenizer.load(folder)
  t.like(tokenizer, { folder, vocabSize, eosId, chatTemplate: 'from file' })
  const copy = path.join(folder, 'copy')
  await mkdir(copy)
  t.deepEqual((await copyTokenizer(folder, copy)).sort(), ['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json'])
  t.deepEqual((await readdir(copy)).sort(), ['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json'])

  await writeFile(path.join(folder, 'tokenizer.json'), '{"model": {"type": "BPE", "vocab"')
  await failsWith(t, () => Tokenizer.load(folder), 'tokenizer.json line 1 column 34')
  await writeFile(path.join(folder, 'tokenizer.json'), '{"model": {"type": "BPE"}}')
  await failsWith(t, () => Tokenizer.load(folder), 'a vocabulary in')
  await writeFile(path.join(folder, 'tokenizer.json'), '{"model": {"type": "Riddle", "vocab": {"a": 0}}}')
  await failsWith(t, () => Tokenizer.load(folder), 'a model type of BPE', '"Riddle"')
  await writeFile(
    path.join(folder, 'tokenizer.json'),
    '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Riddle"}}',
  )
  await failsWith(t, () => Tokenizer.load(folder), '[tokenizer]', 'a pre-tokenizer that is known', 'Riddle')
})

test('a word that is not in the vocabulary becomes the unknown token, or an error', async (t) => {
  const words = (unknown: string | null): Tokenizer =>
    Tokenizer.fromJson({
      pre_tokenizer: { type: 'Whitespace' },
      model: { type: 'WordLevel', vocab: { a: 0, b: 1, '[UNK]': 2 }, unk_token: unknown },
    })
  t.deepEqual([...words('[UNK]').encode('b a c', { special: false })], [1, 0, 2])
  await failsWith(t, () => words(null).encode('b a c', { special: false }), 'vocabulary can spell', '"c"')
})

test('a folder without a tokenizer still names its special ids', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ bos_token_id: 2, eos_token_id: [2, 5], pad_token_id: null }))
  t.deepEqual(await readSpecialIds(folder), { bosId: 2, eosId: 2, eosIds: [2, 5], padId: null })
})
