import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import { atomicFolder, ensureWritable, readJson, writeFileAtomic, writeJson } from '../../../lib/base/files.js'
import type { TextLine } from '../../../lib/base/lines.js'
import { readLines } from '../../../lib/base/lines.js'
import { failsWith, temporaryFolder } from '../data/support.js'

test('a file is written whole and leaves nothing beside it', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'a.json')
  await writeJson(file, { a: 1 })
  await writeFileAtomic(file, Uint8Array.of(1, 2, 3))
  t.deepEqual([...(await readFile(file))], [1, 2, 3])
  t.deepEqual(await readdir(folder), ['a.json'])
})

test('a file in a folder that is not there names the path', async (t) => {
  const folder = await temporaryFolder(t)
  await failsWith(
    t,
    () => writeFileAtomic(path.join(folder, 'none', 'a.txt'), 'x'),
    '[files]',
    path.join('none', 'a.txt'),
    'ENOENT',
  )
})

test('a folder is swapped in as a whole', async (t) => {
  const parent = await temporaryFolder(t)
  const target = path.join(parent, 'deep', 'model')
  const fillWith = (name: string) => async (folder: string) => {
    await mkdir(path.join(folder, 'sub'))
    await writeFile(path.join(folder, 'sub', name), name)
  }
  await atomicFolder(target, fillWith('one'))
  await atomicFolder(target, fillWith('two'))
  t.deepEqual(await readdir(path.join(target, 'sub')), ['two'])
  t.deepEqual(await readdir(path.dirname(target)), ['model'])
})

test('a folder that could not be filled changes nothing', async (t) => {
  const parent = await temporaryFolder(t)
  const target = path.join(parent, 'model')
  await atomicFolder(target, (folder) => writeFile(path.join(folder, 'kept'), 'x'))
  const broken = atomicFolder(target, async (folder) => {
    await writeFile(path.join(folder, 'half'), 'y')
    throw new Error('out of luck')
  })
  await t.throwsAsync(broken, { message: 'out of luck' })
  t.deepEqual(await readdir(target), ['kept'])
  t.deepEqual(await readdir(parent), ['model'])
})

test('ensureWritable makes the folder, and refuses a place below a file', async (t) => {
  const parent = await temporaryFolder(t)
  await ensureWritable(path.join(parent, 'a', 'b'))
  t.deepEqual(await readdir(path.join(parent, 'a', 'b')), [])
  await writeFile(path.join(parent, 'plain'), '')
  await failsWith(t, () => ensureWritable(path.join(parent, 'plain')), '[files]', 'can be written', 'plain')
  await failsWith(t, () => ensureWritable(path.join(parent, 'plain', 'below')), '[files]', 'can be written')
})

test('readJson points at the syntax error', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'config.json')
  await writeFile(file, '\ufeff{"a": 1}')
  t.deepEqual(await readJson(file), { a: 1 })
  await writeFile(file, '{\n  "a": 1,\n  "b": oops\n}')
  await failsWith(t, () => readJson(file), 'config.json line 3 column 8', 'oops')
  await failsWith(t, () => readJson(path.join(folder, 'none.json')), 'none.json', 'Try')
})

async function linesOf(file: string): Promise<TextLine[]> {
  const lines: TextLine[] = []
  for await (const line of readLines(file)) lines.push(line)
  return lines
}

test('lines: CRLF, byte order mark, blank lines, no final line end, gz', async (t) => {
  const folder = await temporaryFolder(t)
  const content = '\ufeffone\r\n\r\n  \ntwo\nthree'
  const expected = [
    { line: 1, text: 'one' },
    { line: 4, text: 'two' },
    { line: 5, text: 'three' },
  ]
  await writeFile(path.join(folder, 'a.jsonl'), content)
  await writeFile(path.join(folder, 'a.jsonl.gz'), gzipSync(content))
  t.deepEqual(await linesOf(path.join(folder, 'a.jsonl')), expected)
  t.deepEqual(await linesOf(path.join(folder, 'a.jsonl.gz')), expected)
  await writeFile(path.join(folder, 'empty.jsonl'), '')
  t.deepEqual(await linesOf(path.join(folder, 'empty.jsonl')), [])
})

test('lines longer than a read chunk, with characters across chunk borders', async (t) => {
  const folder = await temporaryFolder(t)
  const long = 'aé中🎉'.repeat(400_000)
  const file = path.join(folder, 'long.jsonl')
  await writeFile(file, `first\n${long}\nlast\n`)
  const lines = await linesOf(file)
  t.deepEqual(
    lines.map(({ line }) => line),
    [1, 2, 3],
  )
  t.true(lines[1]!.text === long)
  t.is(lines[2]!.text, 'last')
})

test('lines come back as they were written', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'any.jsonl')
  const line = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).map((text) => `x${text.replaceAll(/[\r\n]/g, '')}x`)
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 8 }), fc.constantFrom('\n', '\r\n'), async (texts, end) => {
      await writeFile(file, texts.join(end))
      t.deepEqual(
        (await linesOf(file)).map(({ text }) => text),
        texts,
      )
    }),
    { numRuns: 40 },
  )
})

test('a torn gzip file and a line that is not UTF-8 are named', async (t) => {
  const folder = await temporaryFolder(t)
  const whole = gzipSync('one\ntwo\n'.repeat(1000))
  const torn = path.join(folder, 'torn.jsonl.gz')
  await writeFile(torn, whole.subarray(0, whole.length - 12))
  await failsWith(t, () => linesOf(torn), '[data]', 'gzip', 'torn.jsonl.gz')
  const bytes = path.join(folder, 'bytes.jsonl')
  await writeFile(bytes, Buffer.concat([Buffer.from('fine\n'), Buffer.of(0xff, 0xfe, 0x0a)]))
  await failsWith(t, () => linesOf(bytes), 'UTF-8', 'bytes.jsonl line 2')
  await failsWith(t, () => linesOf(path.join(folder, 'none.jsonl')), 'none.jsonl')
})
