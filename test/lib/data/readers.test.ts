import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import test from 'ava'
import type { RawRow } from '../../../lib/data/records.js'
import { openDataset, readDataset, readDatasets } from '../../../lib/data/readers.js'
import { sharedPromptLength } from '../../../lib/data/rowShapes.js'
import { failsWith, temporaryFolder, writeLines } from './support.js'

const withoutPlace = (rows: readonly RawRow[]): object[] => rows.map(({ at: _, ...row }) => row)
const user = { role: 'user', content: 'hi' }
const good = { role: 'assistant', content: 'hello' }
const bad = { role: 'assistant', content: 'go away' }

test('every shape of row is understood', async (t) => {
  const folder = await temporaryFolder(t)
  const file = await writeLines(folder, 'rows.jsonl', [
    { prompt: 'p', chosen: 'c', rejected: 'r' },
    {
      chosen: '\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: yes',
      rejected: '\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: no',
    },
    { prompt: 'p', response: 'r', text: null },
    { text: 'x' },
    { prompt: 'p' },
    { messages: [user, good] },
    { prompt: [user] },
    { chosen: [user, good], rejected: [user, bad] },
    { prompt: [user], chosen: [good], rejected: [bad] },
    { prompt: 'hi', chosen: [good], rejected: [bad] },
    { input_ids: [1, 2, 3] },
    { input_ids: [1, 2, 3], labels: [-100, 2, 3] },
  ])
  const pair = { kind: 'messagePreference', prompt: [user], chosen: [good], rejected: [bad] }
  const { rows, skipped } = await readDataset(file)
  t.is(skipped, 0)
  t.deepEqual(withoutPlace(rows), [
    { kind: 'preference', prompt: 'p', chosen: 'c', rejected: 'r' },
    { kind: 'preference', prompt: '\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:', chosen: ' yes', rejected: ' no' },
    { kind: 'response', prompt: 'p', response: 'r' },
    { kind: 'text', text: 'x' },
    { kind: 'prompt', prompt: 'p' },
    { kind: 'messages', messages: [user, good] },
    { kind: 'messages', messages: [user] },
    pair,
    pair,
    pair,
    { kind: 'ids', ids: Int32Array.of(1, 2, 3), labels: null },
    { kind: 'ids', ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, 2, 3) },
  ])
  t.deepEqual(rows[4]!.at, { file, line: 5, unit: 'line', index: 4 })
})

test('the shared prompt ends at the last Assistant: that both texts hold', (t) => {
  const a = 'Human: x Assistant: one Human: y Assistant: two'
  t.is(sharedPromptLength(a, 'Human: x Assistant: other'), 'Human: x Assistant:'.length)
  t.is(sharedPromptLength(a, a), a.length - ' two'.length)
  t.is(sharedPromptLength('Human: x Assistant', 'Human: x Assistant: y'), 0, 'the colon is not shared')
  t.is(sharedPromptLength('', ''), 0)
})

test('transcripts without a shared Assistant: are counted and skipped', async (t) => {
  const folder = await temporaryFolder(t)
  const nothing = { chosen: 'Human: a', rejected: 'Human: b' }
  const file = await writeLines(folder, 'pairs.jsonl', [
    nothing,
    { chosen: 'Assistant: a', rejected: 'Assistant: b' },
    { chosen: [good], rejected: [bad] },
  ])
  const dataset = await readDataset(file)
  t.is(dataset.skipped, 2)
  t.is(dataset.rows.length, 1)
  await failsWith(
    t,
    async () => readDataset(await writeLines(folder, 'none.jsonl', [nothing])),
    'none.jsonl',
    '1 rows',
    'Assistant:',
  )
})

test('files, folders, arrays and gzip', async (t) => {
  const folder = await temporaryFolder(t)
  const data = path.join(folder, 'data')
  await mkdir(path.join(data, 'more'), { recursive: true })
  await writeLines(data, 'b.jsonl', [{ text: 'b1' }, { text: 'b2' }])
  await writeFile(path.join(data, 'a.json'), '\n[{"text": "a1"},\n {"text": "a2"}]')
  await writeFile(path.join(data, 'c.json'), '{"text": "c1"}\n{"text": "c2"}\n')
  await writeFile(path.join(data, 'more', 'd.json.gz'), gzipSync('[{"text": "d1"}]'))
  await writeFile(path.join(data, 'README.md'), 'not data')
  await writeFile(path.join(data, '.hidden.jsonl'), 'not data')
  const [all, one] = await readDatasets([data, path.join(data, 'b.jsonl')])
  t.deepEqual(
    all!.rows.map((row) => (row.kind === 'text' ? row.text : '')),
    ['a1', 'a2', 'b1', 'b2', 'c1', 'c2', 'd1'],
  )
  t.deepEqual(all!.rows[1]!.at, { file: path.join(data, 'a.json'), line: 2, unit: 'row', index: 1 })
  t.is(one!.rows.length, 2)
})

test('a data set is read as it is asked for, and again from the start', async (t) => {
  const folder = await temporaryFolder(t)
  await writeLines(folder, 'train.jsonl', [{ text: 'a' }, { chosen: 'x', rejected: 'y' }, { text: 'b' }, { wrong: 1 }])
  await writeFile(path.join(folder, 'test.csv'), 'text,note\n"c, d",\n')
  const dataset = await openDataset(folder)
  t.deepEqual(dataset.files, [path.join(folder, 'train.jsonl')])
  for (const _ of [1, 2]) {
    const texts: unknown[] = []
    await failsWith(t, async () => {
      for await (const row of dataset.rows()) texts.push([row.kind === 'text' && row.text, row.at.index])
    }, 'train.jsonl line 4')
    t.deepEqual(texts, [['a', 0], ['b', 2]], 'the rows before a wrong one, with their places in the set')
    t.is(dataset.skipped, 1)
  }
  const held: RawRow[] = []
  for await (const row of dataset.held!.rows()) held.push(row)
  t.deepEqual(withoutPlace(held), [{ kind: 'text', text: 'c, d' }])
  t.is(dataset.held!.held, null)
})

const wrongRows: readonly (readonly [string, unknown, ...string[]])[] = [
  [
    'a number for a prompt',
    { prompt: 3, chosen: 'c', rejected: 'r' },
    'expected a string in field "prompt" of',
    'rows.jsonl line 2, received a number',
    'Try',
  ],
  ['one answer only', { prompt: 'p', chosen: 'c' }, 'field "rejected"', 'received nothing'],
  ['a response without a prompt', { response: 'r' }, 'field "prompt"', 'received nothing'],
  [
    'unknown fields',
    { question: 'q', answer: 'a' },
    '"question", "answer"',
    '{prompt, chosen, rejected}',
    '{input_ids, labels?}',
  ],
  ['no fields', {}, 'an object without fields'],
  ['not an object', [1], 'received an array'],
  ['messages that are no list', { messages: 'hi' }, 'a list of messages in field "messages"', 'received a string'],
  ['no messages', { messages: [] }, 'an empty list'],
  ['a message without content', { messages: [{ role: 'user' }] }, 'field "content"', 'message 1'],
  ['a message without role', { messages: [user, { content: 'x' }] }, 'field "role"', 'message 2'],
  ['ids that are no numbers', { input_ids: [1, '2'] }, 'position 1', 'received a string'],
  ['a negative id', { input_ids: [1, 2, -5] }, 'position 2', '-5'],
  ['a broken id', { input_ids: [1.5] }, 'position 0', '1.5'],
  ['no ids', { input_ids: [] }, 'at least one token id'],
  ['labels of another length', { input_ids: [1, 2], labels: [1] }, '(2)', 'received 1'],
  ['shifted labels', { input_ids: [1, 2, 3], labels: [2, 3, -100] }, 'position 0', 'not shifted'],
]

for (const [name, row, ...texts] of wrongRows) {
  test(`a wrong row is named: ${name}`, async (t) => {
    const folder = await temporaryFolder(t)
    const file = await writeLines(folder, 'rows.jsonl', [{ text: 'fine' }, row])
    await failsWith(t, () => readDataset(file), '[data]', 'rows.jsonl line 2', ...texts)
  })
}

test('wrong files are named', async (t) => {
  const folder = await temporaryFolder(t)
  await failsWith(t, () => readDataset(path.join(folder, 'none.jsonl')), 'none.jsonl', 'ENOENT')
  await failsWith(t, async () => readDataset(await writeLines(folder, 'empty.jsonl', [])), 'at least one row', 'empty.jsonl')
  await failsWith(t, async () => readDataset(await writeLines(folder, 'data.txt', [{ text: 'x' }])), 'data.txt', '.jsonl')
  await mkdir(path.join(folder, 'bare'))
  await failsWith(t, () => readDataset(path.join(folder, 'bare')), 'bare', 'none')
  const broken = path.join(folder, 'broken.jsonl')
  await writeFile(broken, '{"text": "fine"}\n\n{"text": "torn\n')
  await failsWith(t, () => readDataset(broken), 'broken.jsonl line 3 column 10')
  const array = path.join(folder, 'array.json')
  await writeFile(array, '[{"text": "fine"},\n {"text": 5}]')
  await failsWith(t, () => readDataset(array), 'array.json row 2', 'received a number')
})
