// JSON arrays that are cut into elements as they stream, against JSON.parse of the whole text.
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { once } from 'node:events'
import { gzipSync } from 'node:zlib'

import test from 'ava'
import fc from 'fast-check'

import { jsonFormat } from '../../../../lib/data/formats/json.js'
import { failsWith, temporaryFolder } from '../support.js'

async function read(file: string): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const { value } of jsonFormat.rows(file, null)) found.push(value)
  return found
}

test('any array reads as JSON.parse does, in every layout', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'a.json')
  await fc.assert(
    fc.asyncProperty(fc.array(fc.jsonValue(), { maxLength: 6 }), fc.constantFrom(0, 1, '\t'), fc.constantFrom('', '\ufeff', ' \r\n'), async (list, indent, before) => {
      const text = JSON.stringify(list, null, indent)
      await writeFile(file, before + text + '\n')
      t.deepEqual(await read(file), JSON.parse(text))
    }),
    { numRuns: 200 },
  )
})

test('gzip, an empty array, and rows on lines of their own', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'a.json.gz'), gzipSync('[{"a": "]},{["}, {"b": "\\"\\\\"}]'))
  t.deepEqual(await read(join(folder, 'a.json.gz')), [{ a: ']},{[' }, { b: '"\\' }])
  t.deepEqual(await jsonFormat.columns(join(folder, 'a.json.gz')), ['a'])
  await writeFile(join(folder, 'b.json'), ' [ ] ')
  t.deepEqual(await read(join(folder, 'b.json')), [])
  await writeFile(join(folder, 'c.json'), '{"c": 1}\n\n{"c": 2}\n')
  t.deepEqual(await read(join(folder, 'c.json')), [{ c: 1 }, { c: 2 }])
})

test('a broken array is named with line and column', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'a.json')
  const cases: [text: string, ...says: string[]][] = [
    ['[{"a": 1},\n {"a": tru}]', 'a value in', 'line 2 column 8', '"tru}"'],
    ['[\n\n  {"a": 1}\n  {"a": 2}]', '"," or "]" after the row', 'line 4 column 3'],
    ['[{"a": 1},, {"a": 2}]', 'a row in', 'line 1 column 11', '","'],
    ['[{"a": 1},\n]', 'a row in', 'line 2 column 1', '"]"'],
    ['[{"a": 1}]\n{"a": 2}', 'nothing after the closing bracket', 'line 2 column 1'],
    ['[{"a": 1},\n {"a": "2}]', 'the end of the row that begins at line 2 column 2', 'cut off'],
    ['[{"a": 1},\n', '"]" at the end of', 'cut off'],
    ['[{"a": [1}]}]', '"," or the closing bracket', 'line 1 column 10'],
  ]
  for (const [text, ...says] of cases) {
    await writeFile(file, text)
    await failsWith(t, () => read(file), 'a.json', ...says)
  }
  await writeFile(file, Buffer.from([0x5b, 0x0a, 0x22, 0xff, 0x22, 0x5d]))
  await failsWith(t, () => read(file), 'UTF-8 text in', 'a.json line 2')
})

test('an array is never in memory as a whole', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'large.json')
  const out = createWriteStream(file)
  const row = JSON.stringify({ text: 'ä'.repeat(5000) })
  out.write('[')
  for (let i = 0; i < 15_000; i++) if (!out.write(i === 0 ? row : `,\n${row}`)) await once(out, 'drain')
  out.end(']')
  await once(out, 'close')
  let rows = 0
  let most = 0
  const before = process.memoryUsage.rss()
  for await (const { at } of jsonFormat.rows(file, null)) {
    rows = at.line
    if (rows % 500 === 0) most = Math.max(most, process.memoryUsage.rss() - before)
  }
  t.is(rows, 15_000)
  t.true(most < 100 * 2 ** 20, `150 MB of rows took ${Math.round(most / 2 ** 20)} MiB`)
})
