// Rows as the sets have them, and the strings DeepSpeed-Chat's classes make of them.
import { mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { chooseMapping, mappingByName, mappings } from '../../../../lib/data/mappings/choose.js'
import type { RawRow } from '../../../../lib/data/records.js'
import { openDataset, readDataset } from '../../../../lib/data/readers.js'
import type { DatasetOptions } from '../../../../lib/data/readers.js'
import { failsWith, temporaryFolder, writeLines } from '../support.js'

const bare = (rows: readonly RawRow[]): object[] => rows.map(({ at: _, ...row }) => row)

/** The rows of a file <name>/train.jsonl. */
async function through(t: ExecutionContext, name: string, rows: readonly unknown[], options: DatasetOptions = {}): Promise<{ rows: object[]; skipped: number; mapping: string | null }> {
  const folder = await temporaryFolder(t)
  const file = join(folder, name, 'train.jsonl')
  await mkdir(dirname(file), { recursive: true })
  await writeLines(dirname(file), 'train.jsonl', rows)
  const { rows: found, skipped } = await readDataset(dirname(file), options)
  return { rows: bare(found), skipped, mapping: (await openDataset(dirname(file), options)).mapping }
}

const pair = (prompt: string, chosen: string, rejected: string): object => ({ kind: 'preference', prompt, chosen, rejected })
const reply = (prompt: string, response: string): object => ({ kind: 'response', prompt, response })

const one = { prompt: '\n\nHuman: a\n\nAssistant:', response: ' yes', chosen: ' yes', rejected: ' no' }
const answers = { zh_cn: [{ text: '甲', aliases: [] }], ja: [{ text: null }] }
const sets: [set: string, rows: Record<string, unknown>[], expected: object[], skipped?: number][] = [
  ['Dahoas/rm-static', [one], [pair('\n\nHuman: a\n\nAssistant:', ' yes', ' no')]],
  ['Dahoas/full-hh-rlhf', [one], [pair('\n\nHuman: a\n\nAssistant:', ' yes', ' no')]],
  ['Anthropic/hh-rlhf', [{ chosen: '\n\nHuman: a\n\nAssistant: b', rejected: '\n\nHuman: a\n\nAssistant: c' }], [pair('\n\nHuman: a\n\nAssistant:', ' b', ' c')]],
  ['Dahoas/synthetic-instruct-gptj-pairwise', [{ prompt: 'why?', chosen: 'so', rejected: 'no' }], [pair(' Human: why? Assistant:', ' so', ' no')]],
  ['yitingxie/rlhf-reward-datasets', [{ prompt: '\n\nHuman: a\n\n', chosen: 'Assistant: x Assistant: b', rejected: 'Assistant: c' }], [pair('\n\nHuman: a\n\nAssistant:', ' b', ' c')]],
  [
    'openai/webgpt_comparisons',
    [
      { question: { id: 'x', full_text: 'why?' }, answer_0: 'A [1, 2] b(3)[4,5] c [d] (6 x).', answer_1: 'B', score_0: -0.5, score_1: 0.5 },
      { question: { full_text: 'tie?' }, answer_0: 'first', answer_1: 'second', score_0: 0, score_1: 0 },
    ],
    [pair(' Human: why? Assistant:', ' B', ' A b c [d] (6 x).'), pair(' Human: tie? Assistant:', ' first', ' second')],
  ],
  ['stanfordnlp/SHP', [{ history: 'h', human_ref_A: 'a', human_ref_B: 'b', labels: 1 }, { history: 'h', human_ref_A: 'a', human_ref_B: 'b', labels: 0 }], [pair(' Human: h Assistant:', ' a', ' b'), pair(' Human: h Assistant:', ' b', ' a')]],
  [
    'Cohere/miracl-zh-queries-22-12',
    [{ query: 'q', positive_passages: [{ text: 'p' }, { text: 'p2' }], negative_passages: [{ text: 'n' }] }, { query: 'q', positive_passages: [{ text: 'p' }], negative_passages: [] }],
    [pair(' Human: q Assistant:', ' p', ' n')],
    1,
  ],
  ['Cohere/miracl-ja-queries-22-12', [{ query: 'q', positive_passages: [{ text: 'p' }], negative_passages: [{ text: 'n' }] }], [pair(' Human: q Assistant:', ' p', ' n')]],
  ['wangrui6/Zhihu-KOL', [{ INSTRUCTION: 'q', RESPONSE: 'a', SOURCE: 'Zhihu' }], [reply(' Human: q Assistant:', ' a')]],
  ['Hello-SimpleAI/HC3-Chinese', [{ question: 'q', human_answers: ['a', 'b'], chatgpt_answers: ['c'] }, { question: 'q', human_answers: [], chatgpt_answers: [] }], [reply(' Human: q Assistant:', ' a')], 1],
  ['mkqa-Chinese', [{ queries: { zh_cn: '何', ja: 'なに' }, answers }], [reply(' Human: 何 Assistant:', ' 甲')]],
  ['mkqa-Japanese', [{ queries: { ja: 'なに' }, answers }, { queries: { ja: 'なに' }, answers: { ja: [{ text: '一' }] } }], [reply(' Human: なに Assistant:', ' 一')], 1],
  ['lmqg/qg_jaquad', [{ question: 'q', sentence: 's', paragraph: 'p' }], [reply(' Human: q Assistant:', ' s')]],
  ['lmqg/qag_jaquad', [{ questions: ['q', 'r'], answers: ['a', 'b'], paragraph: 'p' }], [reply(' Human: q Assistant:', ' p')]],
  [
    'pvduy/sharegpt_alpaca_oa_vicuna_format',
    [{ prompt: 'USER: a ASSISTANT: b USER: c ASSISTANT:', label: 'd' }, { prompt: '', label: 'd' }, { prompt: 'USER:', label: null }],
    [reply('Human: a Assistant: b Human: c Assistant:', ' d')],
    2,
  ],
  [
    'HuggingFaceH4/ultrafeedback_binarized',
    [{ prompt: 'q', chosen: [{ role: 'user', content: 'q' }, { role: 'assistant', content: 'a' }], rejected: [{ role: 'user', content: 'q' }, { role: 'assistant', content: 'b' }], messages: [{ role: 'user', content: 'q' }, { role: 'assistant', content: 'a' }], score_chosen: 8 }],
    [{ kind: 'messagePreference', prompt: [{ role: 'user', content: 'q' }], chosen: [{ role: 'assistant', content: 'a' }], rejected: [{ role: 'assistant', content: 'b' }] }],
  ],
]

for (const [set, rows, expected, skipped = 0] of sets) {
  test(`${set}: its rows, by its name`, async (t) => {
    const found = await through(t, set, rows)
    t.deepEqual(found.rows, expected)
    t.is(found.skipped, skipped)
    t.is(found.mapping, mappingByName(set)!.name)
  })
  const { name, signature } = mappingByName(set)!
  if (signature) {
    test(`${set}: known by its columns under any name`, async (t) => {
      const found = await through(t, 'mine', rows)
      t.deepEqual([found.rows, found.mapping], [expected, name])
    })
  }
}

test('every built-in mapping has its rows above or in a test of its own', (t) => {
  const tested = new Set([...sets.map(([set]) => mappingByName(set)!.name), 'ShareGPT', 'OpenAssistant', 'nvidia/HelpSteer', 'rated answers'])
  t.deepEqual(mappings.map(({ name }) => name).filter((name) => !tested.has(name)), [])
})

test('a name is told in every form a path has', (t) => {
  for (const path of ['openai/webgpt_comparisons', '/data/webgpt_comparisons', 'sets/webgpt_comparisons/data/train.parquet', 'WebGPT_comparisons.jsonl.gz', 'openai/webgpt_comparisons@main', '/c/datasets--openai--webgpt_comparisons/snapshots/0123/data'])
    t.is(mappingByName(path)?.name, 'openai/webgpt_comparisons', path)
  for (const path of ['/shp/a/b/c/rows.jsonl', 'webgpt', 'my-rm-static']) t.is(mappingByName(path), null, path)
})

test('a name alone does not bend rows of other columns', async (t) => {
  const rows = [{ prompt: 'p', response: 'r' }]
  t.deepEqual(await through(t, 'SHP', rows), { rows: [{ kind: 'response', prompt: 'p', response: 'r' }], skipped: 0, mapping: null })
  t.is(chooseMapping('x/rows.jsonl', ['text']), null)
})

test('ShareGPT: roles have their names, and what follows the last answer goes', async (t) => {
  const from = (who: string, value: string): object => ({ from: who, value })
  const found = await through(t, 'mine', [
    { id: 1, conversations: [from('system', 's'), from('human', 'q'), from('gpt', 'a'), from('human', 'more?')] },
    { id: 2, conversations: [from('human', 'q')] },
    { id: 3, conversations: [] },
  ])
  t.deepEqual(found, { rows: [{ kind: 'messages', messages: [{ role: 'system', content: 's' }, { role: 'user', content: 'q' }, { role: 'assistant', content: 'a' }] }], skipped: 2, mapping: 'ShareGPT' })
  await failsWith(t, () => through(t, 'mine', [{ conversations: [from('human', 'q'), { from: 'gpt' }] }]), '[data]', 'field "value" of "conversations" message 2', 'line 1')
})

const rated = (prompt: string, ...ratings: number[]): object[] => ratings.map((helpfulness, i) => ({ prompt, response: `${prompt}${i}`, helpfulness, verbosity: 1 }))

const ranking = (prompt: string, responses: string[], ranks: number[]): object => ({ kind: 'ranking', prompt, responses, ranks })

test('ratings: every answer for SFT, a ranking of those to each prompt for a reward model', async (t) => {
  const rows = [...rated('a', 2, 4, 1, 4, 1), ...rated('b', 3), ...rated('c', 2, 2), ...rated('d', 0, 1)]
  t.deepEqual((await through(t, 'mine', rows)).rows, rows.map((row) => ({ kind: 'response', prompt: (row as { prompt: string }).prompt, response: (row as { response: string }).response })))
  t.deepEqual(await through(t, 'mine', rows, { pairs: true }), { rows: [ranking('a', ['a1', 'a3', 'a0', 'a2', 'a4'], [0, 0, 1, 2, 2]), ranking('d', ['d1', 'd0'], [0, 1])], skipped: 2, mapping: 'nvidia/HelpSteer' })
  t.is((await through(t, 'mine', [{ prompt: 'p', response: 'r', rating: 1 }])).mapping, 'rated answers')
  await failsWith(t, () => through(t, 'mine', [{ prompt: 'p', response: 'r', rating: 'good' }], { pairs: true }), 'a number in field "rating"', 'line 1, received "good"')
  await failsWith(t, () => through(t, 'mine', rated('b', 3), { pairs: true }), 'rows with two answers that are not rated alike', 'none in 1, read as nvidia/HelpSteer', '--columns')
})

test('rows of one prompt have one place, the same for answers and for pairs', async (t) => {
  const folder = await temporaryFolder(t)
  const file = await writeLines(folder, 'rows.jsonl', [...rated('a', 2, 4), ...rated('b', 3), ...rated('c', 2, 1)])
  const places = async (pairs: boolean): Promise<unknown[]> => (await readDataset(file, { pairs })).rows.map((row) => [row.kind === 'ids' ? '' : 'prompt' in row && row.prompt, row.at.index])
  t.deepEqual(await places(false), [['a', 0], ['a', 0], ['b', 1], ['c', 2], ['c', 2]])
  t.deepEqual(await places(true), [['a', 0], ['c', 2]])
})

let ids = 0
interface Branch {
  text: string
  rank?: number | null
  deleted?: boolean
  replies?: Branch[]
}
function tree(root: Branch, treeId = `t${ids}`): Record<string, unknown>[] {
  const rows: Record<string, unknown>[] = []
  const add = ({ text, rank = null, deleted = false, replies = [] }: Branch, parent: string | null, role: string): void => {
    const id = `m${ids++}`
    rows.push({ message_id: id, parent_id: parent, text, role, rank, deleted, message_tree_id: treeId })
    for (const reply of replies) add(reply, id, role === 'prompter' ? 'assistant' : 'prompter')
  }
  add(root, null, 'prompter')
  return rows
}
const said = (...texts: string[]): object[] => texts.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }))

test('OpenAssistant: conversations along the best answers, rankings of all that are ranked', async (t) => {
  const rows = [
    ...tree({ text: 'q', replies: [{ text: 'worse', rank: 1, replies: [{ text: 'left', replies: [{ text: 'c', rank: 0 }, { text: 'd', rank: 2 }, { text: 'e', rank: 1 }] }] }, { text: 'better', rank: 0, replies: [{ text: 'q2', replies: [{ text: 'a2' }] }, { text: 'q3', replies: [{ text: 'a3', replies: [{ text: 'open' }] }] }] }, { text: 'gone', rank: 9, deleted: true }] }),
    ...tree({ text: 'alone' }),
    ...tree({ text: 'r', replies: [{ text: 's', replies: [{ text: 'open' }] }] }),
  ]
  const sft = await through(t, 'mine', rows)
  t.deepEqual(sft.rows, [said('q', 'better', 'q2', 'a2'), said('q', 'better', 'q3', 'a3'), said('r', 's')].map((messages) => ({ kind: 'messages', messages })))
  t.deepEqual([sft.skipped, sft.mapping], [1, 'OpenAssistant'])
  const reward = await through(t, 'mine', rows, { pairs: true })
  const ranked = (prompt: object[], ...answers: string[]): object => ({ kind: 'messageRanking', prompt, responses: answers.map((content) => [{ role: 'assistant', content }]), ranks: [...answers.keys()] })
  t.deepEqual(reward.rows, [ranked(said('q'), 'better', 'worse'), ranked(said('q', 'worse', 'left'), 'c', 'e', 'd')])
  t.is(reward.skipped, 2)
  // without the ids of trees, a root begins a new one
  const withoutTree = await through(t, 'mine', rows.map(({ message_tree_id: _, ...row }) => row))
  t.deepEqual(withoutTree.rows, sft.rows)
})

test('--columns names the fields of any other set', async (t) => {
  const rows = [{ data: { question: 'q', 'a.b': 'x' }, best: 'b', worst: 'w', 'flat.name': 'f', turns: [{ from: 'human', value: 'h' }, { from: 'gpt', value: 'g' }], ids: [1, 2], n: 3 }]
  const map = async (columns: string, more: DatasetOptions = {}): Promise<object> => (await through(t, 'SHP', rows, { columns, ...more })).rows[0]!
  t.deepEqual(await map('prompt=data.question,chosen=best,rejected=worst'), pair('q', 'b', 'w'))
  t.deepEqual(await map(' prompt = flat.name , response = worst '), reply('f', 'w'))
  t.deepEqual(await map('text=best'), { kind: 'text', text: 'b' })
  t.deepEqual(await map('messages=turns'), { kind: 'messages', messages: said('h', 'g') })
  t.deepEqual(await map('input_ids=ids'), { kind: 'ids', ids: Int32Array.of(1, 2), labels: null })
  t.deepEqual(await map('prompt=data.question,response=best,rating=n'), reply('q', 'b'))
  const columns = 'prompt=q,response=a,rating=r'
  t.deepEqual((await through(t, 'x', [{ q: 'q', a: 'a', r: 1 }, { q: 'q', a: 'b', r: 2 }], { columns, pairs: true })).rows, [ranking('q', ['b', 'a'], [0, 1])])
  const wrong: [columns: string, ...says: string[]][] = [
    ['prompt=question', 'a field "question" for prompt in', 'line 1', 'the fields "data", "best"', '--columns with names that every row has'],
    ['prompt=n', 'a string in field "n"', 'received a number'],
    ['input_ids=best', 'a list of token ids in field "best"'],
    ['messages=best', 'a list of messages in field "best"'],
    ['prompt', '[--columns] expected pairs field=column', '"prompt"'],
    ['prompt=a=b', 'pairs field=column'],
    ['answer=best', 'one of the fields prompt, chosen, rejected', '"answer"'],
    ['prompt=a,prompt=b', '"prompt" twice'],
    ['rating=n', 'prompt, response and rating together'],
  ]
  for (const [text, ...says] of wrong) await failsWith(t, () => map(text), ...says)
})

test('of a Parquet file the nested columns of a mapping are read', async (t) => {
  const fixtures = new URL('../../../fixtures/parquet/', import.meta.url).pathname
  const expected = (await readFile(join(fixtures, 'rows.jsonl'), 'utf8')).trimEnd().split('\n').map((line) => JSON.parse(line) as { prompt: string; source: string })
  const { rows } = await readDataset(join(fixtures, 'zstd-groups.parquet'), { columns: 'prompt=prompt,response=source' })
  t.deepEqual(bare(rows), expected.map(({ prompt, source }) => reply(prompt, source)))
})

test('a citation is found in time that grows with the text', (t) => {
  const { row } = mappingByName('openai/webgpt_comparisons') as { row(row: unknown): unknown }
  const long = `[${'1, '.repeat(20_000)}x`
  const started = performance.now()
  row({ fields: { question: { full_text: 'q' }, answer_0: long, answer_1: long, score_0: 1, score_1: 0 }, at: { file: 'f', line: 1, unit: 'line' } })
  t.true(performance.now() - started < 1000)
})
