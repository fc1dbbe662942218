import test from 'ava'
import fc from 'fast-check'
import type { Message, RawRow } from '../../../lib/data/records.js'
import { answerKind, pairKind, promptKind, textKind, tokenizeRows } from '../../../lib/data/tokenize.js'
import { bosId, eosId, failsWith, tinyTokenizer, vocabSize } from './support.js'

const at = { file: 'rows.jsonl', line: 3, unit: 'line' } as const
const tokenizer = tinyTokenizer()
const options = { tokenizer, vocabSize }
const plain = (text: string): number[] => [...tokenizer.encode(text, { special: false })]
const ones = (count: number): number[] => Array.from({ length: count }, () => 1)
const zeros = (count: number): number[] => Array.from({ length: count }, () => 0)
const response = (prompt: string, answer: string): RawRow => ({ kind: 'response', prompt, response: answer, at })
const preference = (prompt: string, chosen: string, rejected: string): RawRow => ({
  kind: 'preference',
  prompt,
  chosen,
  rejected,
  at,
})
const ids = (list: number[], labels: number[] | null = null): RawRow => ({
  kind: 'ids',
  ids: Int32Array.from(list),
  labels: labels === null ? null : Int32Array.from(labels),
  at,
})

test('SFT: the prompt does not count, the answer and its end do', async (t) => {
  for (const row of [response('hi hello:', ' yes'), preference('hi hello:', ' yes', ' no')]) {
    const { rows, report } = await tokenizeRows(answerKind, [row], options)
    const [prompt, answer] = [
      [bosId, ...plain('hi hello:')],
      [...plain(' yes'), eosId],
    ]
    t.deepEqual([...rows[0]!.ids], [...prompt, ...answer])
    t.deepEqual([...rows[0]!.counted], [...zeros(prompt.length), ...ones(answer.length)])
    t.deepEqual(report, { rows: 1, kept: 1, droppedPrompt: 0, droppedAnswer: 0, skipped: 0 })
  }
  const all = await tokenizeRows(answerKind, [response('hi', 'yo')], { ...options, countAll: true })
  t.deepEqual([...all.rows[0]!.counted], [0, ...ones(5)])
  const open = await tokenizeRows(answerKind, [response('hi', 'yo')], { ...options, appendEos: false })
  t.deepEqual([...open.rows[0]!.ids], [bosId, ...plain('hi'), ...plain('yo')])
})

test('SFT: text counts but for its first token; an end token in the text is not doubled', async (t) => {
  const { rows } = await tokenizeRows(answerKind, 
    [
      { kind: 'text', text: 'ab', at },
      { kind: 'text', text: 'ab</s>\n', at },
    ],
    options,
  )
  for (const row of rows) {
    t.deepEqual([...row.ids], [bosId, ...plain('ab'), eosId])
    t.deepEqual([...row.counted], [0, 1, 1, 1])
  }
})

test('SFT: in a conversation every answer counts', async (t) => {
  const messages: Message[] = ['a', 'b', 'c', 'd'].map((content, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content,
  }))
  const { rows } = await tokenizeRows(answerKind, [{ kind: 'messages', messages, at }], options)
  const parts = [
    [bosId, ...plain('\n\nHuman: a\n\nAssistant:')],
    plain(' b'),
    plain('\n\nHuman: c\n\nAssistant:'),
    [...plain(' d'), eosId],
  ]
  t.deepEqual([...rows[0]!.ids], parts.flat())
  t.deepEqual(
    [...rows[0]!.counted],
    parts.flatMap((part, index) => (index % 2 === 0 ? zeros(part.length) : ones(part.length))),
  )
})

test('pre-tokenised rows pass through; labels say what counts', async (t) => {
  const { rows, report } = await tokenizeRows(answerKind, [ids([5, 6, 7]), ids([5, 6, 7, 8], [-100, 6, -100, 8]), ids([5, 6], [-100, -100])], {
    tokenizer: null,
    vocabSize: 10,
  })
  t.deepEqual(
    rows.map((row) => [...row.ids]),
    [
      [5, 6, 7],
      [5, 6, 7, 8],
    ],
  )
  t.deepEqual(
    rows.map((row) => [...row.counted]),
    [
      [0, 1, 1],
      [0, 1, 0, 1],
    ],
  )
  t.like(report, { rows: 3, kept: 2, skipped: 1 })
})

test('an id outside the vocabulary names line, position, id and vocabulary', async (t) => {
  await failsWith(
    t,
    () => tokenizeRows(answerKind, [ids([1, 2, 10])], { tokenizer: null, vocabSize: 10 }),
    'vocabulary size 10',
    'position 2',
    'rows.jsonl line 3',
    'received 10',
  )
  await failsWith(t, () => tokenizeRows(answerKind, [response('a', 'b')], { tokenizer, vocabSize: 100 }), 'vocabulary size 100')
  await failsWith(
    t,
    () => tokenizeRows(textKind, [{ kind: 'text', text: 'a', at }], { tokenizer, vocabSize: 100, maxSeqLen: 8 }),
    'vocabulary size 100',
  )
  await failsWith(t, () => tokenizeRows(promptKind, [ids([11])], { tokenizer: null, vocabSize: 10 }), 'received 11')
})

test('rows of the wrong shape for a use say so', async (t) => {
  const prompt: RawRow = { kind: 'prompt', prompt: 'a', at }
  await failsWith(t, () => tokenizeRows(answerKind, [prompt], options), 'an answer', 'rows.jsonl line 3', '{prompt}')
  await failsWith(t, () => tokenizeRows(pairKind, [response('a', 'b')], options), 'two answers', '{prompt, response}')
  await failsWith(t, () => tokenizeRows(promptKind, [{ kind: 'text', text: 'a', at }], options), 'a row with a prompt', '{text}')
  await failsWith(t, () => tokenizeRows(answerKind, [response('a', 'b')], { tokenizer: null, vocabSize }), '{input_ids}', 'no tokenizer')
  await failsWith(t, () => tokenizeRows(answerKind, [{ kind: 'messages', messages: [{ role: 'user', content: 'a' }], at }], options), '"user"')
})

test('pairs share their prompt ids', async (t) => {
  const message = (role: string, content: string): Message => ({ role, content })
  const asMessages: RawRow = {
    kind: 'messagePreference',
    prompt: [message('user', 'q')],
    chosen: [message('assistant', 'good')],
    rejected: [message('assistant', 'bad')],
    at,
  }
  for (const row of [preference('\n\nHuman: q\n\nAssistant:', ' good', ' bad'), asMessages]) {
    const { rows } = await tokenizeRows(pairKind, [row], options)
    const { chosen, rejected, promptLength } = rows[0]!
    const prompt = [bosId, ...plain('\n\nHuman: q\n\nAssistant:')]
    t.is(promptLength, prompt.length)
    t.deepEqual([...chosen.ids], [...prompt, ...plain(' good'), eosId])
    t.deepEqual([...rejected.ids], [...prompt, ...plain(' bad'), eosId])
    t.deepEqual([...chosen.counted], [...zeros(promptLength), ...ones(chosen.ids.length - promptLength)])
  }
})

test('prompts are the beginning of the SFT rows, with nothing behind', async (t) => {
  const rowsIn = [response('hello', ' x'), preference('hello', 'a', 'b'), { kind: 'prompt', prompt: 'hello', at } as const]
  const { rows } = await tokenizeRows(promptKind, rowsIn, options)
  for (const row of rows) t.deepEqual([...row.ids], [bosId, ...plain('hello')])
  const messages = [
    { role: 'user', content: 'q' },
    { role: 'assistant', content: 'known' },
  ]
  const chat = await tokenizeRows(promptKind, [{ kind: 'messages', messages, at }, ids([1, 2])], options)
  t.is(tokenizer.decode(chat.rows[0]!.ids, { skipSpecial: true }), '\n\nHuman: q\n\nAssistant:')
  t.deepEqual(chat.rows[1], { ids: Int32Array.of(1, 2) })
})

test('an empty prompt starts with the start or end token', async (t) => {
  const bare = tinyTokenizer({ around: false })
  const { rows } = await tokenizeRows(promptKind, [{ kind: 'prompt', prompt: '', at }], { tokenizer: bare, vocabSize })
  t.deepEqual([...rows[0]!.ids], [bosId])
})

test('limits drop whole rows and count them', async (t) => {
  const rowsIn = [response('aaaa', 'b'), response('aaaaaaaa', 'b'), response('a', 'bbbbbbbb')]
  const wanted = { rows: 3, kept: 1, droppedPrompt: 1, droppedAnswer: 1, skipped: 0 }
  t.deepEqual((await tokenizeRows(answerKind, rowsIn, { ...options, maxSeqLen: 8 })).report, wanted)
  t.deepEqual((await tokenizeRows(answerKind, rowsIn, { ...options, maxPromptLen: 5, maxAnswerLen: 2 })).report, wanted)
  const pairsIn = [preference('a', 'b', 'b'), preference('a', 'b', 'bbbb'), preference('aaaaa', 'b', 'b')]
  t.deepEqual((await tokenizeRows(pairKind, pairsIn, { ...options, maxSeqLen: 5 })).report, wanted)
  const prompts = await tokenizeRows(promptKind, rowsIn, { ...options, maxPromptLen: 5 })
  t.deepEqual(prompts.rows.map(({ ids: prompt }) => prompt.length), [5, 2])
  await failsWith(
    t,
    () => tokenizeRows(answerKind, rowsIn, { ...options, maxSeqLen: 3 }),
    '--max-seq-len 3',
    'none of 3',
    'prompt too long: 2',
    'answer too long: 1',
  )
})

test('exactly at the limit fits', async (t) => {
  const row = response('aaa', 'bbb')
  const whole = 1 + 3 + 3 + 1
  t.is((await tokenizeRows(answerKind, [row], { ...options, maxSeqLen: whole })).report.kept, 1)
  await failsWith(t, () => tokenizeRows(answerKind, [row], { ...options, maxSeqLen: whole - 1 }), 'answer too long: 1')
})

test('pretraining pieces predict every token but the first exactly once', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1, maxLength: 40 }), fc.integer({ min: 2, max: 12 }), async (text, maxSeqLen) => {
      const { rows, report } = await tokenizeRows(textKind, [{ kind: 'text', text, at }], { ...options, maxSeqLen })
      const whole = [bosId, ...plain(text), eosId]
      t.is(report.kept, 1)
      t.true(rows.every((row) => row.ids.length <= maxSeqLen && row.counted[0] === 0))
      const predicted = rows.flatMap((row) => [...row.ids].filter((_, position) => row.counted[position] === 1))
      t.deepEqual(predicted, whole.slice(1))
    }),
  )
  const labelled = await tokenizeRows(textKind, [ids([1, 2, 3, 4], [-100, 2, -100, 4])], { tokenizer: null, vocabSize: 9, maxSeqLen: 3 })
  t.deepEqual(
    labelled.rows.map((row) => [[...row.ids], [...row.counted]]),
    [
      [
        [1, 2, 3],
        [0, 1, 0],
      ],
      [
        [3, 4],
        [0, 1],
      ],
    ],
  )
  await failsWith(t, () => tokenizeRows(textKind, [], { ...options, maxSeqLen: 1 }), '--max-seq-len')
})

test('pretraining takes every shape that holds text', async (t) => {
  const { rows } = await tokenizeRows(textKind, [response('a', 'b'), preference('a', 'b', 'c'), { kind: 'prompt', prompt: 'ab', at }], {
    ...options,
    maxSeqLen: 99,
  })
  for (const row of rows)
    t.deepEqual(
      [[...row.ids], [...row.counted]],
      [
        [bosId, ...plain('a'), ...plain('b'), eosId],
        [0, 1, 1, 1],
      ],
    )
})
