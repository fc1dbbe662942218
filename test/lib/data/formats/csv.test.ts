// CSV: quotes, line ends, byte order marks, absent values, and the line that an error names.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

import test from 'ava'
import fc from 'fast-check'

import { csvFormat } from '../../../../lib/data/formats/csv.js'
import { failsWith, temporaryFolder } from '../support.js'

async function read(file: string): Promise<{ value: unknown; line: number }[]> {
  const found: { value: unknown; line: number }[] = []
  for await (const { value, at } of csvFormat.rows(file, null)) found.push({ value, line: at.line })
  return found
}

const text = '\ufeffprompt,response\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n3,\n4,""\n säule ,月'
const rows = [
  { value: { prompt: '1', response: 'two\r\nlines, "quoted"' }, line: 2 },
  { value: { prompt: '3', response: null }, line: 5 },
  { value: { prompt: '4', response: '' }, line: 6 },
  { value: { prompt: ' säule ', response: '月' }, line: 7 },
]

test('values, absent values and the lines they begin on', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'a.csv'), text)
  await writeFile(join(folder, 'a.csv.gz'), gzipSync(text))
  for (const name of ['a.csv', 'a.csv.gz']) {
    t.deepEqual(await read(join(folder, name)), rows)
    t.deepEqual(await csvFormat.columns(join(folder, name)), ['prompt', 'response'])
  }
  await writeFile(join(folder, 'empty.csv'), '')
  t.deepEqual(await read(join(folder, 'empty.csv')), [])
  t.deepEqual(await csvFormat.columns(join(folder, 'empty.csv')), [])
})

test('any text comes back when it is quoted as RFC 4180 says', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'a.csv')
  const cell = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ', 'ä', '😀', '\\', "'") })
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 5 }), async (cells) => {
      const quoted = (value: string): string => `"${value.replaceAll('"', '""')}"`
      await writeFile(file, 'a,b\n' + cells.map((row) => row.map(quoted).join(',')).join('\n'))
      t.deepEqual((await read(file)).map(({ value }) => value), cells.map(([a, b]) => ({ a, b })))
    }),
    { numRuns: 150 },
  )
})

test('a wrong file is named with its line', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'a.csv')
  const cases: [content: string | Buffer, ...says: string[]][] = [
    ['a,b\n1,2\n1,2,3\n', '2 values, as in the header, in', 'a.csv line 3, received 3'],
    ['a,b\n1\n', 'a.csv line 2, received 1'],
    ['a,b\n1,2\n"x,2\n1,2\n', 'a closing quote for a value of the row that begins in', 'a.csv line 3'],
    ['a,b\n1,x"y\n', 'quotes around whole values only', 'a.csv line 2, received a quote inside a value'],
    ['a,b\n1,"x"y\n', 'a.csv line 2, received text behind a closing quote'],
    ['a,b,a\n1,2,3\n', 'a name of its own for each column', '"a" twice'],
    [Buffer.from('a,b\n1,2\n1,\xff\n', 'latin1'), 'UTF-8 text in', 'a.csv line 3'],
    [Buffer.from('a,b\n1,2\n1,\xc3', 'latin1'), 'UTF-8 text in', 'a.csv line 3'],
  ]
  for (const [content, ...says] of cases) {
    await writeFile(file, content)
    await failsWith(t, () => read(file), '[data]', 'a.csv', ...says)
  }
  await writeFile(join(folder, 'torn.csv.gz'), gzipSync('a\n'.repeat(5000)).subarray(0, 30))
  await failsWith(t, () => read(join(folder, 'torn.csv.gz')), 'a whole gzip file in', 'torn.csv.gz')
  await failsWith(t, () => read(join(folder, 'none.csv')), 'none.csv', 'ENOENT')
})
