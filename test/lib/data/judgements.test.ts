// Rankings, margins and ties: from rows as people write them to token rows, and through the store.
import test from 'ava'

import type { RawRow } from '../../../lib/data/records.js'
import { rankedRowCodec } from '../../../lib/data/rowList.js'
import { parseRow } from '../../../lib/data/rowShapes.js'
import { answerKind, pairKind, promptKind, rankedKind, textKind, tokenizeRows } from '../../../lib/data/tokenize.js'
import { stageRows } from '../../../lib/data/stageRows.js'
import { openStageData } from '../../../lib/data/stageData.js'
import { columnsMapping } from '../../../lib/data/mappings/columns.js'
import { bosId, eosId, failsWith, temporaryFolder, tinyTokenizer, vocabSize, writeLines } from './support.js'

const at = { file: 'rows.jsonl', line: 7, unit: 'line' as const }
const tokenizer = tinyTokenizer()
const options = { tokenizer, vocabSize }
const ids = (text: string): number[] => [...tokenizer.encode(text, { special: false })]
const row = (value: object): RawRow => parseRow(value, at)!
const said = (content: string): object[] => [{ role: 'assistant', content }]

test('ranks become places from 0, best first, equal ones in their order', (t) => {
  const parsed = (ranking: unknown[]): unknown => {
    const found = row({ prompt: 'p', responses: ['a', 'b', 'c', 'd'], ranking })
    return found.kind === 'ranking' && [found.responses.join(''), found.ranks]
  }
  t.deepEqual(parsed([1, 2, 3, 4]), ['abcd', [0, 1, 2, 3]])
  t.deepEqual(parsed([4, 0.5, 4, -1]), ['dbac', [0, 1, 2, 2]])
  t.deepEqual(parsed(['2', '1', '2', '10']), ['bacd', [0, 1, 1, 2]], 'numbers as text, as in a CSV file')
  t.deepEqual(parsed([3, 3, 3, 3]), ['abcd', [0, 0, 0, 0]])
  t.is(row({ prompt: 'p', responses: ['a', 'b'] }).kind, 'prompt', 'without ranks it is a prompt')
})

test('margins and ties of two answers, as texts, transcripts and messages', (t) => {
  const pair = { prompt: 'p', chosen: 'a', rejected: 'b' }
  t.like(row({ ...pair, margin: 1.5 }), { kind: 'preference', margin: 1.5 })
  t.like(row({ ...pair, margin: '-2' }), { margin: -2 })
  for (const tie of [{ tie: true }, { tie: 'true' }, { label: 'tie' }]) t.true('tie' in row({ ...pair, ...tie }))
  for (const none of [{}, { tie: false }, { tie: 'false', label: 1 }, { margin: null, tie: null, label: 'left' }, { margin: 0 }]) t.deepEqual(row({ ...pair, ...none }), row(pair))
  t.like(row({ chosen: 'Human: q Assistant: a', rejected: 'Human: q Assistant: b', margin: 1 }), { prompt: 'Human: q Assistant:', margin: 1 })
  t.like(row({ prompt: 'q', chosen: said('a'), rejected: said('b'), tie: true }), { kind: 'messagePreference', tie: true })
})

test('what is no judgement is refused with its place', async (t) => {
  const refused = (value: object, ...says: string[]): Promise<void> => failsWith(t, () => row(value), 'rows.jsonl line 7', ...says)
  const pair = { prompt: 'p', chosen: 'a', rejected: 'b' }
  await refused({ ...pair, tie: 'yes' }, 'true or false in field "tie"', '"yes"')
  await refused({ ...pair, margin: Infinity }, 'a number in field "margin"')
  await refused({ prompt: 'p', responses: ['a'], ranking: [1] }, 'at least two answers', 'a list of 1')
  await refused({ prompt: 'p', responses: 'ab', ranking: [1, 2] }, 'at least two answers', 'a string')
  await refused({ prompt: 'p', responses: ['a', 'b'], ranking: 'ab' }, 'a list of ranks', 'a string')
  await refused({ prompt: 'p', responses: ['a', 'b'], ranking: [1, 'best'] }, 'a number at position 1 of field "ranking"', '"best"')
  await refused({ responses: ['a', 'b'], ranking: [1, 2] }, 'a string in field "prompt"')
  await refused({ prompt: [{ role: 'user', content: 'q' }], responses: ['a', [{ role: 'assistant' }]], ranking: [1, 2] }, 'field "content" of "responses.1" message 1')
})

test('a ranking as token rows: all answers for the reward model, pairs for DPO, the best for SFT, the prompt for PPO', async (t) => {
  const text = row({ prompt: 'hello', responses: ['x', 'yy', 'z', ''], ranking: [2, 1, 2, 3] })
  const chat = row({ prompt: [{ role: 'user', content: 'q' }], responses: [said('x'), 'yy', 'z', ''], ranking: [2, 1, 2, 3] })
  const prompts = [[bosId, ...ids('hello')], [bosId, ...ids('\n\nHuman: q\n\nAssistant:')]]
  for (const [i, raw] of [text, chat].entries()) {
    const space = i === 0 ? '' : ' '
    const answers = ['yy', 'x', 'z', ''].map((words) => [...prompts[i]!, ...ids(space + words), eosId])
    const { rows } = await tokenizeRows(rankedKind, [raw], options)
    t.deepEqual(rows[0]!.answers.map((a) => [...a.ids]), answers)
    t.deepEqual([rows[0]!.ranks, rows[0]!.margin], [[0, 1, 1, 2], 0])
    t.deepEqual(rows[0]!.answers.map((a) => a.counted.indexOf(1)), answers.map(() => prompts[i]!.length))
    const pairs = (await tokenizeRows(pairKind, [raw], options)).rows.map(({ chosen, rejected, promptLength }) => [answers.findIndex((a) => String(a) === String(chosen.ids)), answers.findIndex((a) => String(a) === String(rejected.ids)), promptLength === prompts[i]!.length])
    t.deepEqual(pairs, [[0, 1, true], [0, 2, true], [0, 3, true], [1, 3, true], [2, 3, true]], 'every pair of which one is better')
    for (const kind of [answerKind, textKind]) t.deepEqual([...(await tokenizeRows(kind, [raw], { ...options, maxSeqLen: 100 })).rows[0]!.ids], answers[0]!)
    t.deepEqual([...(await tokenizeRows(promptKind, [raw], options)).rows[0]!.ids], prompts[i]!)
  }
  const tie = row({ prompt: 'p', chosen: 'a', rejected: 'b', tie: true })
  t.deepEqual((await tokenizeRows(rankedKind, [tie], options)).rows[0]!.ranks, [0, 0])
  t.is((await tokenizeRows(pairKind, [tie, text], options)).report.skipped, 1, 'a tie teaches DPO nothing')
  const long = await tokenizeRows(rankedKind, [text, row({ prompt: 'p', responses: ['a', 'b', 'c'.repeat(40)], ranking: [1, 2, 3] })], { ...options, maxSeqLen: 20 })
  t.deepEqual([long.report.kept, long.report.droppedAnswer], [1, 1], 'one answer too long drops the row')
})

test('rows of any number of answers come back from the store as they went in', async (t) => {
  const folder = await temporaryFolder(t)
  const raw = Array.from({ length: 40 }, (_, i) =>
    i % 3 === 0
      ? { prompt: `p${i}`, chosen: 'a'.repeat(1 + (i % 4)), rejected: 'b', ...(i % 2 ? { margin: i / 7 - 2 } : { tie: true }) }
      : { prompt: `p${i}`, responses: Array.from({ length: 2 + (i % 5) }, (_a, k) => `${i}${'x'.repeat(k)}`), ranking: Array.from({ length: 2 + (i % 5) }, (_a, k) => (k * i) % 3) },
  )
  const file = await writeLines(folder, 'rows.jsonl', raw)
  const data = { dataPath: [file], dataWeights: '2', dataSplit: null, columns: null, evalDataPath: [], evalFraction: 0, seed: 3 }
  const { rows } = await tokenizeRows(rankedKind, raw.map(row), options)
  for (const more of [{}, { mostInMemory: 0 }]) {
    const { train } = await stageRows(await openStageData(data, 2), rankedKind, { ...options, seed: 3, threads: 1, cache: { folder, always: true, ...more } })
    t.deepEqual(Array.from({ length: train.length }, (_, i) => train.at(i)), rows.flatMap((r) => [r, r]))
    for (const i of [0, 1, 7, 79]) t.is(train.tokens(i), train.at(i).answers.reduce((sum, a) => sum + a.ids.length, 0))
    train.dispose()
  }
  const margins = rows.map(({ margin }) => margin)
  t.true(margins.includes(Math.fround(3 / 7 - 2)) && margins.some((m) => m > 0))
  t.deepEqual(rankedRowCodec.names(rows.find((r) => r.answers.length === 3)!).length, 3)
})

test('--columns takes rankings, margins and ties, which a row may be without', (t) => {
  const map = columnsMapping('prompt=q,responses=a,ranking=r')
  t.deepEqual('row' in map && map.row({ fields: { q: 'p', a: ['x', 'y'], r: [2, 1] }, at }), { prompt: 'p', responses: ['x', 'y'], ranking: [2, 1] })
  const judged = columnsMapping('prompt=q,chosen=c,rejected=d,margin=m,tie=t')
  t.deepEqual('row' in judged && judged.row({ fields: { q: 'p', c: 'x', d: 'y', m: 2 }, at }), { prompt: 'p', chosen: 'x', rejected: 'y', margin: 2, tie: undefined })
})
