import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { dataFiles, splitOf } from '../../../lib/data/folders.js'
import { failsWith, temporaryFolder } from './support.js'

test('the split that a name stands for', (t) => {
  const names: [name: string, split: ReturnType<typeof splitOf>][] = [
    ['data/train-00000-of-00002.parquet', 'train'],
    ['train00.jsonl', 'train'],
    ['harmless-base/test.jsonl.gz', 'test'],
    ['validation/a.csv', 'validation'],
    ['dev.json', 'validation'],
    ['my_eval.jsonl', 'test'],
    ['test-suite/train.jsonl', 'train'],
    ['Train.CSV', 'train'],
    ['training_set.jsonl', 'train'],
    ['constraints.jsonl', null],
    ['latest.jsonl', null],
    ['testament.jsonl', null],
    ['rows.jsonl', null],
  ]
  for (const [name, split] of names) t.is(splitOf(name), split, name)
})

async function filesIn(t: Parameters<typeof temporaryFolder>[0], names: readonly string[]): Promise<string> {
  const folder = await temporaryFolder(t)
  for (const name of names) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true })
    await writeFile(path.join(folder, name), '')
  }
  return folder
}

const cases: [names: string[], train: string[], held: string[]][] = [
  [['b.jsonl', 'a/c.jsonl', 'a.json'], ['a.json', 'a/c.jsonl', 'b.jsonl'], []],
  [['data/train-00001-of-00002.parquet', 'data/train-00000-of-00002.parquet', 'data/test-00000-of-00001.parquet'], ['data/train-00000-of-00002.parquet', 'data/train-00001-of-00002.parquet'], ['data/test-00000-of-00001.parquet']],
  [['train.jsonl', 'validation.jsonl', 'test.jsonl'], ['train.jsonl'], ['validation.jsonl']],
  // what names no split is something else where a train split is named; and its kind is no matter
  [['data/train-0.parquet', 'ready.trees.jsonl.gz', 'dataset_infos.json', 'README.md'], ['data/train-0.parquet'], []],
  [['one/train.jsonl', 'one/test.jsonl', 'two/train.jsonl'], ['one/train.jsonl', 'two/train.jsonl'], ['one/test.jsonl']],
  [['rows.csv', 'test.csv'], ['rows.csv'], ['test.csv']],
  [['test.csv'], ['test.csv'], []],
  [['.cache/train.jsonl', 'a.jsonl', '.b.jsonl'], ['a.jsonl'], []],
]

for (const [names, train, held] of cases) {
  test(`files and splits of ${names.join(' ')}`, async (t) => {
    const folder = await filesIn(t, names)
    const there = (list: string[]): string[] => list.map((name) => path.join(folder, name))
    t.deepEqual(await dataFiles(folder), { train: there(train), held: there(held) })
  })
}

test('names that a set is known by go before the rule', async (t) => {
  const folder = await filesIn(t, ['train_prefs-0.parquet', 'train_sft-0.parquet', 'test_prefs-0.parquet'])
  const found = await dataFiles(folder, { train: /train_prefs/, held: /test_prefs/ })
  t.deepEqual([found.train, found.held].map((list) => list.map((file) => path.basename(file))), [['train_prefs-0.parquet'], ['test_prefs-0.parquet']])
  t.is((await dataFiles(folder, { train: /all/ })).train.length, 2, 'where the names are others, the rule holds')
})

test('a folder without data, or with kinds that do not go together, is refused', async (t) => {
  await failsWith(t, async () => dataFiles(await filesIn(t, ['a.jsonl', 'b.parquet'])), 'data files of one kind', 'JSON and Parquet')
  await failsWith(t, async () => dataFiles(await filesIn(t, ['a.arrow'])), 'ending in .jsonl', '.parquet', 'none')
  await failsWith(t, async () => dataFiles(path.join(await filesIn(t, []), 'none')), 'a data file or folder at', 'ENOENT')
})
