import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { ThreefoldError } from '../../../../lib/base/errors.js'
import { Tokenizer } from '../../../../lib/data/tokenizer.js'
import { classOf } from '../../../../lib/data/tokenizers/classes.js'
import { failsWith, temporaryFolder, tokenizerJson } from '../support.js'
import type { TokenizerFixture } from './support.js'
import { fixture, fixtureFolder, fixtureTokenizer } from './support.js'

test('a tokenizer.json comes before the other files; without any there is no tokenizer', async (t) => {
  const folder = await fixtureFolder(t, 'gpt2-files')
  const files = await Tokenizer.load(folder)
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson()))
  await writeFile(path.join(folder, 'tokenizer_config.json'), '{}')
  t.not((await Tokenizer.load(folder)).vocabSize, files.vocabSize)
  await rm(path.join(folder, 'tokenizer.json'))
  await rm(path.join(folder, 'merges.txt'))
  t.is(await Tokenizer.tryLoad(folder), null)
  await failsWith(t, () => Tokenizer.load(folder), 'tokenizer.json, vocab.json with merges.txt, or tokenizer.model', folder)
})

test('OPT: </s> stands before every text where add_bos_token says so', async (t) => {
  const opt = await fixtureTokenizer(t, 'opt-files')
  t.is(opt.tokenOf(opt.bosId!), '</s>')
  t.is(opt.encode('Hi', { special: true })[0], opt.bosId!)
  const { files } = fixture<TokenizerFixture>('opt-files')
  const config = JSON.parse(Buffer.from(files['tokenizer_config.json']!, 'base64').toString()) as Record<string, unknown>
  const without = await fixtureTokenizer(t, 'opt-files', { 'tokenizer_config.json': JSON.stringify({ ...config, add_bos_token: false }) })
  t.deepEqual(without.encode('Hi', { special: true }), without.encode('Hi', { special: false }))
})

test('the class is the one AutoTokenizer takes', (t) => {
  const named = (tokenizer_class: string): Record<string, unknown> => ({ tokenizer_class })
  t.is(classOf(named('LlamaTokenizerFast'), {}, false), 'LlamaTokenizer')
  t.is(classOf(named('LlamaTokenizer'), { model_type: 'llama' }, true), null)
  t.is(classOf(named('LlamaTokenizer'), { model_type: 'mistral' }, false), null)
  t.is(classOf(named('PreTrainedTokenizerFast'), { model_type: 'gpt2' }, false), 'PreTrainedTokenizer')
  t.is(classOf({}, { model_type: 'opt' }, false), 'GPT2Tokenizer')
  t.is(classOf({}, { model_type: 'opt', tokenizer_class: 'GPTNeoXTokenizer' }, false), 'GPTNeoXTokenizer')
  t.is(classOf(named('LlamaTokenizer'), { model_type: 'qwen2' }, false), 'Qwen2Tokenizer')
  t.is(classOf({}, { model_type: 'nobody' }, false), null)
})

/** A field changed, somewhere inside the tokenizer.json of the tests. */
function changed(at: readonly (string | number)[], value: unknown): Record<string, unknown> {
  const json = structuredClone(tokenizerJson())
  let place = json as Record<string | number, unknown>
  for (const key of at.slice(0, -1)) place = place[key] as Record<string | number, unknown>
  place[at.at(-1)!] = value
  return json
}

test('a wrong tokenizer.json is one error that names file and field', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'tokenizer.json')
  const wrong: readonly (readonly [unknown, ...string[]])[] = [
    [[], 'a JSON object', 'an array'],
    [changed(['model'], 7), 'a JSON object in "model"', 'a number'],
    [changed(['model', 'vocab', 'h'], 'x'), 'a whole number', '"model.vocab.h"', '"x"'],
    [changed(['model', 'vocab', 'h'], 1e9), '"model.vocab.h"', '1000000000'],
    [changed(['model', 'vocab', 'h'], -1), '"model.vocab.h"', '-1'],
    [changed(['model', 'vocab', 'i'], 71), 'an id that no other token has', '"model.vocab.i"', '71, which "G" has'],
    [changed(['model', 'vocab', '\ud800'], 300), 'a token of whole characters'],
    [changed(['model', 'vocab'], []), 'a JSON object in "model.vocab"'],
    [changed(['model', 'merges'], ['h']), 'two tokens to merge in "model.merges[0]"'],
    [changed(['model', 'merges'], ['h e', ['l', 5]]), 'two tokens to merge in "model.merges[1]"'],
    [changed(['model', 'merges'], ['h e', 'x y']), 'tokens of the vocabulary in "model.merges[1]"', '"xy"'],
    [changed(['model', 'merges'], 'h e'), 'a list in "model.merges"'],
    [changed(['model', 'dropout'], 0.1), 'no dropout', '0.1'],
    [changed(['model', 'byte_fallback'], 'yes'), 'true or false in "model.byte_fallback"'],
    [changed(['added_tokens', 0, 'id'], 400), 'the id 260 of "<s>"', '"added_tokens[0].id"', '400'],
    [changed(['added_tokens', 0, 'content'], 7), 'a string in "added_tokens[0].content"'],
    [changed(['added_tokens', 0, 'content'], 'hello'), 'the id 259 of "hello"'],
    [changed(['pre_tokenizer'], { type: 'Split', pattern: { Regex: '(a' }, behavior: 'Isolated' }), 'a regular expression', '"pre_tokenizer.pattern.Regex"', 'a "(" without its ")"'],
    [changed(['pre_tokenizer'], { type: 'Split', pattern: { Regex: 'a' }, behavior: 'Sideways' }), 'one of Removed', '"pre_tokenizer.behavior"', '"Sideways"'],
    [changed(['pre_tokenizer'], { type: 'Sequence', pretokenizers: [{ type: 'UnicodeScripts' }] }), 'a pre-tokenizer that is known', '"pre_tokenizer.pretokenizers[0].type"', '"UnicodeScripts"'],
    [changed(['normalizer'], { type: 'Riddle' }), 'a normalizer that is known', '"Riddle"'],
    [changed(['normalizer'], { type: 'Precompiled', precompiled_charsmap: 'AAAA' }), 'a character map', '"normalizer.precompiled_charsmap"'],
    [changed(['decoder', 'type'], null), 'a string in "decoder.type"'],
    [changed(['decoder'], { type: 'Riddle' }), 'a decoder that is known'],
    [changed(['post_processor', 'special_tokens', '<s>', 'ids'], [9999]), 'the id of a token', '9999'],
    [changed(['post_processor', 'single', 0, 'SpecialToken', 'id'], '<x>'), 'a token of "special_tokens"', '"<x>"'],
    [changed(['post_processor', 'single'], []), 'the text "A", once'],
    [changed(['post_processor'], { type: 'Riddle' }), 'a post-processor that is known'],
    [{ model: { type: 'Unigram', vocab: [['a', 0], ['b']] } }, 'a piece and its score in "model.vocab[1]"'],
    [{ model: { type: 'Unigram', vocab: [['a', 0]], unk_id: 1 } }, 'an id below 1 in "model.unk_id"'],
    [{ model: { type: 'Unigram', vocab: [] } }, 'a vocabulary in "model.vocab"', 'an empty one'],
  ]
  for (const [json, ...words] of wrong) {
    await writeFile(file, JSON.stringify(json))
    await failsWith(t, () => Tokenizer.load(folder), '[tokenizer]', file, ...words)
  }
  await writeFile(file, JSON.stringify(tokenizerJson()))
  await writeFile(path.join(folder, 'tokenizer_config.json'), '{"added_tokens_decoder": {"x": {"content": "a"}}}')
  await failsWith(t, () => Tokenizer.load(folder), 'an id in "added_tokens_decoder.x"', 'tokenizer_config.json')
})

test('wrong vocab.json and merges.txt name file and line', async (t) => {
  const load = async (change: Readonly<Record<string, string>>): Promise<unknown> => fixtureTokenizer(t, 'opt-files', change)
  await failsWith(t, () => load({ 'merges.txt': '#version: 0.2\nh e\nh e l\n' }), 'two tokens with a space between', 'merges.txt line 3', '"h e l"')
  await failsWith(t, () => load({ 'merges.txt': 'h 中\n' }), 'tokens of the vocabulary in "model.merges[0]"', 'vocab.json')
  await failsWith(t, () => load({ 'vocab.json': '{"hello": 0, "world": 1}' }), 'a byte-level vocabulary', 'vocab.json', 'none of them')
  await failsWith(t, () => load({ 'vocab.json': '[1]' }), 'a JSON object of tokens and ids', 'an array')
  await failsWith(t, () => load({ 'added_tokens.json': '{"<extra>": 7}' }), 'the id 600 of "<extra>"', '7')
})

test('a torn tokenizer.model is one error that names file and byte', async (t) => {
  const bytes = Buffer.from(fixture<TokenizerFixture>('spm-llama').files['tokenizer.model']!, 'base64')
  let loaded = 0
  let refused = 0
  for (let length = 0; length < bytes.length; length += length < 40 ? 1 : 167) {
    const folder = await fixtureFolder(t, 'spm-llama', { 'tokenizer.model': bytes.subarray(0, length) })
    try {
      await Tokenizer.load(folder)
      loaded++
    } catch (error) {
      if (!(error instanceof ThreefoldError)) throw error
      t.true(error.message.includes(path.join(folder, 'tokenizer.model')), error.message)
      refused++
    }
    await rm(folder, { recursive: true })
  }
  t.true(refused > 80, `${refused} refused, ${loaded} loaded`)
  const load = async (content: Uint8Array | string): Promise<unknown> => fixtureTokenizer(t, 'spm-llama', { 'tokenizer.model': content })
  await failsWith(t, () => load(''), 'a SentencePiece model', '0 bytes without a piece')
  await failsWith(t, () => load(bytes.subarray(0, 5)), 'a SentencePiece model', 'at byte 0')
  await failsWith(t, () => load('IQ== 0\nIg== 1\n'), 'a SentencePiece model', '14 bytes without a piece')
  // Field 1 (a piece) with a text that is no UTF-8, with no text, with an unknown type; a kind that does not exist.
  await failsWith(t, () => load(Uint8Array.of(0x0a, 3, 0x0a, 1, 0xff)), 'a piece that is no UTF-8 at byte 4')
  await failsWith(t, () => load(Uint8Array.of(0x0a, 2, 0x18, 1)), 'a piece without a text at byte 2')
  await failsWith(t, () => load(Uint8Array.of(0x0a, 5, 0x0a, 1, 0x61, 0x18, 9)), 'a piece of the unknown type 9')
  await failsWith(t, () => load(Uint8Array.of(0x0f)), 'a field of the unknown kind 7 at byte 0')
  await failsWith(t, () => load(Uint8Array.of(0x0a, 3, 0x0a, 1, 0x61, 0x0a, 3, 0x0a, 1, 0x61)), 'piece 1 with the text "a" of piece 0')
  await failsWith(t, () => load(Uint8Array.of(0x0a, 3, 0x0a, 1, 0x61, 0x12, 2, 0x18, 3)), 'the type unigram or bpe', 'the type word')
})

test('a SentencePiece model of no known class: user-defined pieces are refused by name', async (t) => {
  const folder = await fixtureFolder(t, 'spm-llama', { 'tokenizer_config.json': '{}' })
  await failsWith(t, () => Tokenizer.load(folder), 'no user-defined pieces', '"<|im_start|>"', 'tokenizer_class')
  await failsWith(t, async () => fixtureTokenizer(t, 'spm-llama', { 'tokenizer_config.json': '{"tokenizer_class": "T5Tokenizer"}' }), 'a unigram model', 'T5Tokenizer', 'bpe')
})

test('a stream holds back a run of bytes until it is text or is not', async (t) => {
  const llama = await fixtureTokenizer(t, 'spm-llama')
  const pieces = (ids: readonly number[]): string[] => {
    const out: string[] = []
    const stream = llama.decoder({ skipSpecial: true }, (piece) => out.push(piece))
    for (const id of ids) {
      out.push('|')
      stream.push(id)
    }
    stream.end()
    return out.filter((piece) => piece !== '')
  }
  const [e4, bd, a0, ff] = [0xe4, 0xbd, 0xa0, 0xff].map((byte) => llama.idOf(`<0x${byte.toString(16).toUpperCase()}>`)!)
  const a = llama.idOf('a')!
  t.deepEqual(pieces([e4!, bd!, a0!, a]), ['|', '|', '|', '|', '你', 'a'])
  t.deepEqual(pieces([e4!, bd!, a0!, ff!, a]).join(''), '|||||\ufffd\ufffd\ufffd\ufffda')
  // The space of the first piece goes, those of later ones stay.
  const space = llama.idOf('▁a')!
  t.deepEqual(pieces([llama.bosId!, space, space]), ['|', '|', 'a', '|', ' a'])
})
