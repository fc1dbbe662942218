import test from 'ava'
import { inspectRow, rowWarnings } from '../../../lib/data/inspect.js'
import type { TokenRow } from '../../../lib/data/records.js'
import { bosId, eosId, tinyTokenizer } from './support.js'
import { fixtureTokenizer } from './tokenizers/support.js'

const tokenizer = tinyTokenizer()
const row = (ids: readonly number[], counted: readonly number[]): TokenRow => ({ ids: Int32Array.from(ids), counted: Uint8Array.from(counted) })
const ids = (text: string): number[] => [...tokenizer.encode(text, { special: false })]
/** A prompt of two tokens and the answer "ab", with its end. */
const good = row([bosId, ...ids('hello'), ...ids('ab'), eosId], [0, 0, 1, 1, 1])

test('a row token by token: what counts, and characters that cannot be seen', (t) => {
  t.deepEqual(inspectRow(row([bosId, ...ids('hello\né'), eosId], [0, 0, 1, 1, 1, 1]), tokenizer).split('\n'), [
    '6 tokens, 4 count in the loss',
    'position   id  counts  token    text',
    '       0  260          "<s>"    "<s>"',
    '       1  259          "hello"  "hello"',
    '       2   10  *       "Ċ"      "\\n"',
    '       3  195  *       "Ã"      ""',
    '       4  169  *       "©"      "é"',
    '       5  261  *       "</s>"   "</s>"',
  ])
  t.true(inspectRow(row(ids('a\u00a0\u200b\ufeff'), [0, 1, 1, 1, 1, 1, 1, 1, 1]), tokenizer).includes('"\\u200b"'))
})

test('rows as they should be give no warning', (t) => {
  t.deepEqual(rowWarnings([good, row([...ids('hello'), ...ids('a'), eosId, ...ids('\n')], [0, 1, 1, 1])], tokenizer).filter((words) => !words.includes('every token')), [])
  t.deepEqual(rowWarnings([good], tokenizer), [])
  t.deepEqual(rowWarnings([], tokenizer), [])
})

test('each oddity is named, with how many rows have it and the first', async (t) => {
  const warn = (...odd: TokenRow[]): string[] => rowWarnings([good, ...odd], tokenizer)
  t.deepEqual(warn(row([bosId, bosId, ...ids('a'), eosId], [0, 0, 1, 1]), good), [
    '1 of 3 rows with the start token "<s>" twice: the text or the chat template writes what the tokenizer adds (first: row 2)',
  ])
  t.deepEqual(warn(row([bosId, ...ids('a'), eosId], [0, 1, 1])), ['1 of 2 rows of which every token counts: no prompt is told from an answer (first: row 2)'])
  t.deepEqual(warn(row([bosId, ...ids('a')], [0, 0])), ['1 of 2 rows of which no token counts: they teach nothing (first: row 2)'])
  const open = row([bosId, ...ids('ab'), ...ids('c'), ...ids('de'), eosId], [0, 1, 1, 0, 1, 1, 1])
  const words = 'with an answer that has no end token ("</s>"): the model learns no place to stop'
  t.deepEqual(warn(open, open), [`2 of 3 rows ${words} (first: row 2)`])
  t.deepEqual(warn(row([bosId, ...ids('a'), ...ids('\n')], [0, 0, 1])), [`1 of 2 rows ${words} (first: row 2)`])
  const unigram = await fixtureTokenizer(t, 'unigram')
  const unknown = unigram.encode('ሀሁ ሂሃ ሄህ', { special: false })
  const warnings = rowWarnings([{ ids: Int32Array.from([unigram.bosId!, ...unknown, unigram.eosId!]), counted: Uint8Array.from([0, 0, ...unknown.subarray(1).map(() => 1), 1]) }], unigram)
  t.regex(warnings.at(-1)!, /^\d+ of \d+ tokens \(\d+\.\d %\) are the unknown token "<unk>": the vocabulary does not fit the texts$/)
})
