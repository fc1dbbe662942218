// From files to token rows: in this thread, in workers, and read back from a folder of tokenised rows.
import { appendFile, mkdir, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { writeJson } from '../../../lib/base/files.js'
import { readDataset } from '../../../lib/data/readers.js'
import { rowPieces } from '../../../lib/data/rowList.js'
import type { RowList } from '../../../lib/data/rowList.js'
import { openStageData } from '../../../lib/data/stageData.js'
import type { StageDataOptions } from '../../../lib/data/stageData.js'
import { stageRows } from '../../../lib/data/stageRows.js'
import type { StageRows, StageRowsOptions } from '../../../lib/data/stageRows.js'
import { answerKind, pairKind, promptKind, textKind, tokenizeRows } from '../../../lib/data/tokenize.js'
import type { RowKind } from '../../../lib/data/tokenize.js'
import { Tokenizer } from '../../../lib/data/tokenizer.js'
import { failsWith, temporaryFolder, tokenizerConfig, tokenizerJson, vocabSize, writeLines } from './support.js'

const text = (i: number): string => `row ${i} ${'hello '.repeat(i % 7)}`
const pairs = (n: number): object[] => Array.from({ length: n }, (_, i) => ({ prompt: `${text(i)}:`, chosen: `yes ${i}`, rejected: i % 5 === 4 ? 'x'.repeat(90) : 'no' }))

interface Setting {
  data: StageDataOptions
  options: StageRowsOptions
  folder: string
  file: string
}

async function setting(t: ExecutionContext, n: number): Promise<Setting> {
  const folder = await temporaryFolder(t)
  const place = join(folder, 'tokenizer')
  await mkdir(place)
  await writeJson(join(place, 'tokenizer.json'), tokenizerJson())
  await writeJson(join(place, 'tokenizer_config.json'), tokenizerConfig)
  const file = await writeLines(folder, 'rows.jsonl', pairs(n))
  const data = { dataPath: [file], dataWeights: '1.5', dataSplit: '1,1,1', columns: null, evalDataPath: [], evalFraction: 0.2, seed: 3 }
  return { folder, file, data, options: { tokenizer: await Tokenizer.load(place), vocabSize, maxSeqLen: 80, seed: 3, threads: 1, cache: null } }
}

async function read<Row>({ data, options }: Setting, kind: RowKind<Row>, more: Partial<StageRowsOptions> = {}): Promise<StageRows<Row>> {
  return stageRows(await openStageData(data, 2), kind, { ...options, ...more })
}

const all = <Row>(list: RowList<Row>): Row[] => Array.from({ length: list.length }, (_, i) => list.at(i))
const contents = <Row>({ train, held, reports, skipped }: StageRows<Row>): object => ({ train: all(train), held: all(held), reports, skipped })

test('weights repeat rows, sets are blended, held-out rows are seen once, and what is dropped is counted', async (t) => {
  const s = await setting(t, 600)
  const { train, held, reports, cached } = await read(s, pairKind)
  t.false(cached)
  const seen = new Map<string, number>()
  for (const row of all(train)) seen.set(String(row.chosen.ids), (seen.get(String(row.chosen.ids)) ?? 0) + 1)
  const twice = [...seen.values()].filter((n) => n === 2).length
  t.is(seen.size, reports.train.kept)
  t.true(Math.abs(twice - seen.size / 2) < 12, `${twice} of ${seen.size} rows twice`)
  t.is(new Set(all(held).map((row) => String(row.chosen.ids))).size, held.length)
  t.true(reports.train.droppedAnswer > 20 && reports.held.droppedAnswer > 4)
  for (let i = 0; i < train.length; i++) t.is(train.tokens(i), train.at(i).chosen.ids.length + train.at(i).rejected.ids.length)
  const plain = { ...s, data: { ...s.data, dataWeights: null, dataSplit: null, evalFraction: 0 } }
  const numbers = all((await read(plain, promptKind)).train).map(({ ids }) => Number(/row (\d+)/.exec(s.options.tokenizer!.decode(ids, { skipSpecial: true }))![1]))
  t.deepEqual(numbers, Array.from(numbers.keys()), 'one set as it stands keeps the order of its file')
  const raw = (await readDataset(s.file)).rows
  t.deepEqual(all((await read(plain, pairKind)).train), (await tokenizeRows(pairKind, raw, s.options)).rows, 'the rows that were tokenised')
  await failsWith(t, () => read(s, pairKind, { maxSeqLen: 4 }), 'none of', '--max-seq-len 4')
})

test('workers give the rows that one thread gives, and its errors', async (t) => {
  const s = await setting(t, 1)
  const filler = 'x'.repeat(500)
  await writeLines(s.folder, 'rows.jsonl', Array.from({ length: 9000 }, (_, i) => ({ prompt: `${text(i)}:`, chosen: `yes ${i}`, rejected: 'no', filler })))
  for (const kind of [answerKind, pairKind, promptKind, textKind] as RowKind<unknown>[]) t.deepEqual(contents(await read(s, kind, { threads: 2 })), contents(await read(s, kind)), kind.name)
  await failsWith(t, () => read(s, pairKind, { threads: 2, vocabSize: 100 }), 'vocabulary size 100', 'rows.jsonl line')
  await appendFile(s.file, '{"prompt": 3}\n')
  await failsWith(t, () => read(s, pairKind, { threads: 2 }), 'rows.jsonl line 9001')
})

test('tokenised rows are read back as long as nothing they depend on has changed', async (t) => {
  const s = await setting(t, 300)
  const cache = { folder: join(s.folder, 'tokens'), always: true }
  const wanted = contents(await read(s, pairKind))
  const again = async (more: Partial<Setting> = {}, options: Partial<StageRowsOptions> = {}): Promise<boolean> => {
    const used = { ...s, ...more }
    const rows = await read(used, pairKind, { cache, ...options })
    t.deepEqual(contents(rows), contents(await read(used, pairKind, options)))
    return rows.cached
  }
  t.deepEqual([await again(), await again(), await again({}, { threads: 2 })], [false, true, true])
  t.deepEqual(contents(await read(s, pairKind, { cache })), wanted)
  t.false((await read(s, promptKind, { cache })).cached, 'another kind of row')
  t.false(await again({}, { maxSeqLen: 70 }))
  t.false(await again({ data: { ...s.data, dataWeights: '1' } }))
  t.false(await again({ data: { ...s.data, seed: 4 } }))
  const chat = { ...tokenizerConfig, eos_token: '<s>' }
  const other = join(s.folder, 'other')
  await mkdir(other)
  await writeJson(join(other, 'tokenizer.json'), tokenizerJson())
  await writeJson(join(other, 'tokenizer_config.json'), chat)
  t.false(await again({}, { tokenizer: await Tokenizer.load(other) }), 'another end token')
  await appendFile(s.file, `${JSON.stringify({ prompt: 'more', chosen: 'a', rejected: 'b' })}\n`)
  t.false(await again(), 'one row more')
  t.true(await again())
  t.false((await read(s, pairKind, { cache: { ...cache, always: false } })).cached, 'small sets are kept only where that was asked for')
})

test('a damaged folder of tokenised rows is made again', async (t) => {
  const s = await setting(t, 300)
  const cache = { folder: join(s.folder, 'tokens'), always: true }
  const wanted = contents(await read(s, pairKind, { cache }))
  const [key] = await readdir(cache.folder)
  const place = join(cache.folder, key!)
  const files = await readdir(place)
  t.is(files.length, 7)
  for (const name of files)
    for (const damage of [() => rm(join(place, name)), async () => truncate(join(place, name), Math.max(0, (await readFile(join(place, name))).length - 3)), () => writeFile(join(place, name), '')]) {
      await damage()
      const rows = await read(s, pairKind, { cache })
      t.deepEqual([rows.cached, contents(rows)], [false, wanted], name)
    }
  t.true((await read(s, pairKind, { cache })).cached)
  t.deepEqual(await readdir(cache.folder), [key])
})

test('two at once on one folder both get their rows', async (t) => {
  const s = await setting(t, 2000)
  const cache = { folder: join(s.folder, 'tokens'), always: true }
  const found = await Promise.all(Array.from({ length: 4 }, () => read(s, pairKind, { cache })))
  const wanted = contents(await read(s, pairKind))
  for (const rows of found) t.deepEqual(contents(rows), wanted)
  t.is((await readdir(cache.folder)).length, 1)
})

test('rows of large sets stay on disk and come in pieces', async (t) => {
  const s = await setting(t, 400)
  const folder = join(s.folder, 'tokens')
  const small = await read(s, pairKind, { cache: { folder, always: true } })
  const large = await read(s, pairKind, { cache: { folder, always: true, mostInMemory: 0 } })
  t.true(large.cached)
  t.deepEqual(contents(large), contents(small))
  t.deepEqual([...rowPieces(large.train, 32)].flat(), all(small.train))
  const [key] = await readdir(folder)
  await truncate(join(folder, key!, 'train.ids'), 40)
  await failsWith(t, () => all(large.train), '[token store]', 'train.ids', 'made again')
  large.train.dispose()
  large.held.dispose()
})
