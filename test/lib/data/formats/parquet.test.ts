// Parquet against the rows that pyarrow wrote (test/oracle/parquet.py), in every compression, encoding and page version.
import { readFileSync, readdirSync } from 'node:fs'
import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { parquetFormat } from '../../../../lib/data/formats/parquet.js'
import { readFooter } from '../../../../lib/data/formats/parquetFooter.js'
import { failsWith, temporaryFolder } from '../support.js'

const fixtures = new URL('../../../fixtures/parquet/', import.meta.url).pathname
const names = readdirSync(fixtures).filter((name) => name.endsWith('.parquet'))
const rows = readFileSync(join(fixtures, 'rows.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)

async function read(file: string, wanted: readonly string[] | null = null): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const { value } of parquetFormat.rows(file, wanted)) found.push(value)
  return found
}

test('there is a fixture of each form', (t) => t.is(names.length, 10))

for (const name of names) {
  test(`${name}: every row and value is the one that was written`, async (t) => {
    const file = join(fixtures, name)
    t.deepEqual(await parquetFormat.columns(file), Object.keys(rows[0]!))
    t.deepEqual(await read(file), rows)
  })
}

test('places count the rows of the file over its row groups', async (t) => {
  const file = join(fixtures, 'zstd-groups.parquet')
  const lines: number[] = []
  for await (const { at } of parquetFormat.rows(file, ['prompt'])) {
    t.like(at, { file, unit: 'row' })
    lines.push(at.line)
  }
  t.deepEqual(lines, rows.map((_, i) => i + 1))
})

test('only the columns that are asked for are read', async (t) => {
  const file = join(fixtures, 'snappy.parquet')
  t.deepEqual(await read(file, ['prompt', 'messages', 'absent']), rows.map(({ prompt, messages }) => ({ prompt, messages })))
  t.deepEqual(await read(file, ['absent']), rows, 'all of them where none is there, for the error to name')
  // a column that is broken is no matter to one that is asked for
  const folder = await temporaryFolder(t)
  const broken = join(folder, 'broken.parquet')
  const bytes = await readFile(file)
  const handle = await open(file)
  const { groups } = await readFooter(handle)
  await handle.close()
  const { start, bytes: length } = groups[0]!.chunks.find(({ leaf }) => leaf.path[0] === 'prompt')!
  await writeFile(broken, bytes.fill(0xff, start, start + length))
  t.deepEqual(await read(broken, ['response']), rows.map(({ response }) => ({ response })))
  await failsWith(t, () => read(broken, ['prompt']), '[data]', 'a whole Parquet file', 'broken.parquet', 'copy or download it again')
})

test('what is no whole Parquet file is named', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'a.parquet')
  const whole = await readFile(join(fixtures, 'snappy.parquet'))
  await failsWith(t, () => read(join(folder, 'none.parquet')), 'none.parquet', 'ENOENT')
  for (const [bytes, says] of [
    [Buffer.alloc(0), 'a file of 0 bytes'],
    [Buffer.from('{"text": "not parquet at all"}'), 'no PAR1 at both ends'],
    [whole.subarray(0, whole.length - 1), 'no PAR1 at both ends'],
    [Buffer.concat([whole.subarray(0, 4), whole.subarray(400)]), 'rows'],
    [Buffer.concat([whole.subarray(0, -4), Buffer.from('PARE')]), 'an encrypted footer'],
  ] as const) {
    await writeFile(file, bytes)
    await failsWith(t, () => read(file), '[data] expected a whole Parquet file that can be read at', 'a.parquet', says === 'rows' ? 'received' : says)
  }
})

test('a small file that would fill the memory is refused before it is unpacked', async (t) => {
  await failsWith(t, () => read(join(fixtures, 'large', 'unpacks.parquet')), 'unpacks.parquet', 'a row group that unpacks to more than', 'smaller row groups')
})
