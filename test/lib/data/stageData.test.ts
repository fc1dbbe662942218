// What one stage sees of several sets: slices, weights, held-out rows, and sets by hub id.
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import type { RawRow } from '../../../lib/data/records.js'
import { openStageData } from '../../../lib/data/stageData.js'
import type { StageDataOptions } from '../../../lib/data/stageData.js'
import type { HubHooks } from '../../../lib/hub/resolve.js'
import { HubServer } from '../hub/server.js'
import { failsWith, temporaryFolder, writeLines } from './support.js'

const base: StageDataOptions = { dataPath: [], dataWeights: null, dataSplit: null, columns: null, evalDataPath: [], evalFraction: 0, seed: 7 }
/** All rows of a step in the order of the files, a training row as often as it is seen. */
async function stageData(options: StageDataOptions, step: 1 | 2 | 3, hub: HubHooks = {}): Promise<{ train: RawRow[]; eval: RawRow[]; skipped: number; notes: readonly string[] }> {
  const data = await openStageData(options, step, hub)
  const train: RawRow[] = []
  const held: RawRow[] = []
  for await (const { row, copies, held: out } of data.rows()) {
    if (out) held.push(row)
    for (let copy = 0; copy < copies; copy++) train.push(row)
  }
  return { train, eval: held, skipped: data.skipped, notes: data.notes }
}

const texts = (name: string, n: number): object[] => Array.from({ length: n }, (_, i) => ({ text: `${name}${i}` }))
const textOf = (row: RawRow): string => (row.kind === 'text' ? row.text : '')
const named = (rows: readonly RawRow[], name: string): string[] => rows.map(textOf).filter((text) => text.startsWith(name))

test('without shares every row is there in order; with them the steps divide each set', async (t) => {
  const folder = await temporaryFolder(t)
  const dataPath = [await writeLines(folder, 'a.jsonl', texts('a', 50)), await writeLines(folder, 'b.jsonl', texts('b', 30))]
  const whole = await stageData({ ...base, dataPath }, 2)
  t.deepEqual(whole.train.map(textOf), [...texts('a', 50), ...texts('b', 30)].map((row) => (row as { text: string }).text))
  t.deepEqual([whole.eval, whole.skipped, whole.notes], [[], 0, []])

  const parts = await Promise.all(([1, 2, 3] as const).map((step) => stageData({ ...base, dataPath, dataSplit: '2,4,4', evalFraction: 0.2 }, step)))
  t.deepEqual(parts.flatMap(({ train, eval: held }) => [...train, ...held].map(textOf)).sort(), whole.train.map(textOf).sort())
  for (const { train } of parts) t.true(named(train, 'a').length > 0 && named(train, 'b').length > 0)
  // a set's part does not depend on which others stand beside it
  const alone = await stageData({ ...base, dataPath: [dataPath[1]!], dataSplit: '2,4,4', evalFraction: 0.2 }, 2)
  t.deepEqual(named(alone.train, 'b').sort(), named(parts[1]!.train, 'b').sort())
  t.deepEqual(await stageData({ ...base, dataPath, dataSplit: '2,4,4', evalFraction: 0.2 }, 2), parts[1])
})

test('sets for SFT alone: --data-split leaves every row to the step, weights do not touch them, held-out rows do', async (t) => {
  const folder = await temporaryFolder(t)
  const [dataPath, sftOnlyDataPath] = [[await writeLines(folder, 'a.jsonl', texts('a', 50))], [await writeLines(folder, 'b.jsonl', texts('b', 40))]]
  const options = { ...base, dataPath, dataWeights: '1', dataSplit: '2,4,4' }
  const { train } = await stageData({ ...options, sftOnlyDataPath }, 1)
  t.deepEqual(named(train, 'a'), named((await stageData(options, 1)).train, 'a'), 'the others are as without')
  t.deepEqual(named(train, 'b').sort(), texts('b', 40).map((row) => (row as { text: string }).text).sort())
  const held = await stageData({ ...options, sftOnlyDataPath, evalFraction: 0.25 }, 1)
  t.is(named(held.train, 'b').length + named(held.eval, 'b').length, 40)
  t.true(Math.abs(named(held.eval, 'b').length - 10) <= 2)
  const rulesOf = async (more: object) => JSON.stringify((await openStageData({ ...base, ...more }, 1)).rules)
  t.not(await rulesOf({ dataPath: [...dataPath, ...sftOnlyDataPath], dataSplit: '2,4,4' }), await rulesOf({ dataPath, sftOnlyDataPath, dataSplit: '2,4,4' }), 'stored rows of the one are not taken for the other')
})

test('weights: rows of one set twice, half of those of another, none of a third', async (t) => {
  const folder = await temporaryFolder(t)
  const dataPath = await Promise.all(['a', 'b', 'c'].map((name) => writeLines(folder, `${name}.jsonl`, texts(name, 40))))
  const { train, eval: held } = await stageData({ ...base, dataPath, dataWeights: '2,0.5,0', dataSplit: '1,1,0', evalFraction: 0.25 }, 1)
  const a = named(train, 'a')
  t.is(new Set(a).size * 2, a.length)
  t.true(Math.abs(a.length - 30) <= 4 && Math.abs(named(train, 'b').length - 7.5) <= 3, `${a.length} ${named(train, 'b').length}`)
  t.is(named(train, 'c').length, 0)
  t.is(named(held, 'a').length, named(held, 'c').length, 'what is held out knows no weight')
  await failsWith(t, () => stageData({ ...base, dataPath, dataWeights: '1,1' }, 1), '[--data-weights]', '3 numbers', '"1,1"')
})

test('a test split is held out, unless the user says otherwise', async (t) => {
  const folder = await temporaryFolder(t)
  const set = join(folder, 'set')
  await mkdir(set)
  await writeLines(set, 'train.jsonl', texts('a', 20))
  await writeLines(set, 'test.jsonl', texts('t', 5))
  const other = await writeLines(folder, 'other.jsonl', texts('o', 3))
  const held = async (more: Partial<StageDataOptions>): Promise<string[]> => {
    const { train, eval: rows } = await stageData({ ...base, dataPath: [set, other], ...more }, 1)
    t.is(named(train, 't').length, 0)
    return rows.map(textOf)
  }
  t.deepEqual(await held({}), ['t0', 't1', 't2', 't3', 't4'])
  t.deepEqual(await held({ dataSplit: '1,1,1' }), ['t0', 't1', 't2', 't3', 't4'], 'whole for every step: none of them trains on it')
  t.deepEqual(await held({ evalDataPath: ['none'] }), [])
  t.deepEqual(await held({ evalDataPath: [other] }), ['o0', 'o1', 'o2'])
  t.deepEqual(await held({ evalDataPath: [set] }), ['t0', 't1', 't2', 't3', 't4'], 'of a folder with a test split that split')
  const shares = await held({ evalFraction: 0.5 })
  t.true(shares.length > 8 && shares.every((text) => /^[ao]/.test(text)))
  t.deepEqual((await stageData({ ...base, dataPath: [set] }, 1)).notes, [`${set}: 1 file of a test or validation split held out`])
})

test('a set by its hub id: mapped by its name, its splits only, rated answers as rankings for step 2', async (t) => {
  const rated = (prompt: string): string => [3, 1].map((helpfulness) => JSON.stringify({ prompt, response: `${prompt}${helpfulness}`, helpfulness }) + '\n').join('')
  const hub = await HubServer.start(t, [
    { kind: 'dataset', id: 'nvidia/HelpSteer2', revisions: { main: { 'train.jsonl': rated('a') + rated('b'), 'validation.jsonl': rated('c'), 'disagreements/other.jsonl': '{}', 'README.md': '' } } },
    { kind: 'dataset', id: 'apple/mkqa', revisions: { main: { 'train.jsonl': JSON.stringify({ queries: { ja: 'なに' }, answers: { ja: [{ text: '一' }] } }) } } },
  ])
  const home = await temporaryFolder(t)
  const before = { ...process.env }
  t.teardown(() => Object.assign(process.env, { HF_HOME: before['HF_HOME'] ?? '', HF_ENDPOINT: before['HF_ENDPOINT'] ?? '' }))
  Object.assign(process.env, { HF_HOME: home, HF_ENDPOINT: hub.endpoint })
  const seen: string[] = []
  const pairs = await stageData({ ...base, dataPath: ['nvidia/HelpSteer2'] }, 2, { onProgress: ({ file }) => void seen.push(file) })
  t.deepEqual(pairs.train.map((row) => row.kind === 'ranking' && [row.prompt, ...row.responses]), [['a', 'a3', 'a1'], ['b', 'b3', 'b1']])
  t.is(pairs.eval.length, 1)
  t.deepEqual([...new Set(seen)].sort(), ['train.jsonl', 'validation.jsonl'])
  t.deepEqual(pairs.notes, ['nvidia/HelpSteer2: read as nvidia/HelpSteer', 'nvidia/HelpSteer2: 1 file of a test or validation split held out'])
  t.is((await stageData({ ...base, dataPath: ['nvidia/HelpSteer2'] }, 1)).train.length, 4)
  const named = await stageData({ ...base, dataPath: ['mkqa-Japanese'] }, 1)
  t.like(named.train[0], { prompt: ' Human: なに Assistant:', response: ' 一' })
  t.true((await readFile(named.train[0]!.at.file, 'utf8')).includes('queries'))
  await failsWith(t, () => stageData({ ...base, dataPath: ['owner/absent'] }, 1), 'a dataset folder at owner/absent, or a repository of that name')
})

test('no row left says which shares there were', async (t) => {
  const folder = await temporaryFolder(t)
  const dataPath = [await writeLines(folder, 'a.jsonl', texts('a', 4))]
  await failsWith(t, () => stageData({ ...base, dataPath, dataSplit: '0,1,1', evalFraction: 0.5 }, 1), 'rows for this step', 'none of 4 with --data-split 0,1,1 --eval-fraction 0.5')
})
