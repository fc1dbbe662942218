// Labels: rows in, lines out, back into the reward stage; a file that was cut; agreement against counts by hand.
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { readDataset } from '../../../lib/data/readers.js'
import { agreement } from '../../../lib/stages/agreement.js'
import { LabelFile } from '../../../lib/stages/labelFile.js'
import { labelRow, readLabelItems, secondOnLeft } from '../../../lib/stages/labelRows.js'
import type { Choice, LabelItem, LabelRow } from '../../../lib/stages/labelRows.js'
import { failsWith, temporaryFolder, writeLines } from '../data/support.js'

const time = new Date('2026-01-02T03:04:05Z')
const user = (content: string) => ({ role: 'user', content })
const assistant = (content: string) => ({ role: 'assistant', content })

test('rows of every shape with two answers are items; the same row in another order is the same item', async (t) => {
  const folder = await temporaryFolder(t)
  const file = await writeLines(folder, 'pairs.jsonl', [
    { prompt: 'p', responses: ['a', 'b'], scores: [1, 2] },
    { prompt: 'p', chosen: 'b', rejected: 'a' },
    { prompt: 'p', responses: ['a', 'a'] },
    { chosen: '\n\nHuman: q\n\nAssistant: x', rejected: '\n\nHuman: q\n\nAssistant: y' },
    { prompt: [user('q')], responses: ['a', 'b'] },
    { chosen: [user('q2'), assistant('a')], rejected: [user('q2'), assistant('b')] },
  ])
  const { items, same } = await readLabelItems(file)
  t.is(same, 1)
  t.deepEqual(items.map((i) => [i.prompt, ...i.answers]), [
    ['p', 'a', 'b'],
    ['\n\nHuman: q\n\nAssistant:', ' x', ' y'],
    [[user('q')], [assistant('a')], [assistant('b')]],
    [[user('q2')], [assistant('a')], [assistant('b')]],
  ])
})

test('rows without two answers are refused with file and line', async (t) => {
  const folder = await temporaryFolder(t)
  const refused = async (row: unknown, ...words: string[]): Promise<void> => {
    const file = await writeLines(folder, 'bad.jsonl', [{ prompt: 'p', responses: ['a', 'b'] }, row])
    await failsWith(t, () => readLabelItems(file), 'bad.jsonl line 2', ...words)
  }
  await refused({ prompt: 'p', responses: ['a'] }, '[label] expected two answers', 'received 1 of them; eval writes two with --against')
  await refused({ prompt: 'p', responses: ['a', 'b', 'c'] }, 'received 3 of them')
  await refused({ prompt: 'p', responses: 'ab' }, 'received a string')
  await refused({ prompt: 'p', responses: ['a', 5] }, 'received a number')
  await refused({ responses: ['a', 'b'] }, 'two texts that share no prompt')
  await refused({ prompt: 'p' }, 'a row of another shape')
  await refused({ chosen: 'x', rejected: 'y' }, 'two texts that share no prompt')
  await failsWith(t, () => readLabelItems(join(folder, 'none.jsonl')), 'ENOENT')
  const same = await writeLines(folder, 'same.jsonl', [{ prompt: 'p', responses: ['a', 'a'] }])
  await failsWith(t, () => readLabelItems(same), 'rows with two different answers', 'received 1 with twice the same')
})

const item = (i: number): LabelItem => ({ prompt: `p${i}`, answers: [`a${i}`, `b${i}`], key: JSON.stringify([`p${i}`, `"a${i}"`, `"b${i}"`]), at: { file: 'in.jsonl', line: i + 1, unit: 'line' } })

test('a choice becomes the row that the reward stage reads, whichever side it stood on', async (t) => {
  const label = (choice: Choice, swapped: boolean): object => labelRow(item(0), choice, 'ann', swapped, time)
  const facts = (choice: Choice, order: number[]) => ({ choice, labeler: 'ann', order, source: 'in.jsonl line 1', time: '2026-01-02T03:04:05.000Z' })
  t.deepEqual(label('left', false), { prompt: 'p0', chosen: 'a0', rejected: 'b0', ...facts('left', [0, 1]) })
  t.deepEqual(label('left', true), { prompt: 'p0', chosen: 'b0', rejected: 'a0', ...facts('left', [1, 0]) })
  t.deepEqual(label('right', false), { prompt: 'p0', chosen: 'b0', rejected: 'a0', ...facts('right', [0, 1]) })
  t.deepEqual(label('right', true), { prompt: 'p0', chosen: 'a0', rejected: 'b0', ...facts('right', [1, 0]) })
  t.deepEqual(label('tie', true), { prompt: 'p0', chosen: 'b0', rejected: 'a0', tie: true, ...facts('tie', [1, 0]) })
  t.deepEqual(label('skip', true), { prompt: 'p0', responses: ['b0', 'a0'], ...facts('skip', [1, 0]) })
  const file = await writeLines(await temporaryFolder(t), 'labels.jsonl', [label('skip', false), label('left', true), label('both-bad', true), label('tie', false)])
  const { rows, skipped } = await readDataset(file, { pairs: true })
  t.is(skipped, 2)
  t.deepEqual(rows.map((r) => r.kind === 'preference' && [r.chosen, r.rejected]), [['b0', 'a0'], ['a0', 'b0']])
  await failsWith(t, async () => readDataset(await writeLines(await temporaryFolder(t), 'open.jsonl', [label('skip', false)])), 'labels without a choice')
})

test('sides: half and half, of one labeler and row alone, and not those of another labeler', (t) => {
  const of = (labeler: string, seed: number) => Array.from({ length: 2000 }, (_, i) => secondOnLeft(item(i), labeler, seed))
  const [ann, bob, other] = [of('ann', 1), of('bob', 1), of('ann', 2)]
  t.deepEqual(ann, of('ann', 1))
  // a share of 2000 fair coins is within 4 standard deviations of a half
  const near = (sides: boolean[]) => t.true(Math.abs(sides.filter(Boolean).length / 2000 - 0.5) < 4 * (0.5 / Math.sqrt(2000)))
  near(ann)
  near(ann.map((side, i) => side === bob[i]))
  near(ann.map((side, i) => side === other[i]))
})

test('labels of a labeler are found again; those of others are left to them; a taken-back one is gone', async (t) => {
  const path = join(await temporaryFolder(t), 'new', 'labels.jsonl')
  const add = async (labeler: string, ...numbers: number[]): Promise<string[]> => {
    const file = await LabelFile.open(path, labeler)
    for (const i of numbers) await file.add(labelRow(item(i), i % 2 ? 'left' : 'skip', labeler, true, time))
    await file.close()
    return [...file.done]
  }
  t.deepEqual(await add('ann', 0, 1), [])
  t.deepEqual(await add('bob', 1), [])
  t.deepEqual(await add('ann', 2), [item(0).key, item(1).key])
  const before = await readFile(path, 'utf8')
  const file = await LabelFile.open(path, 'ann')
  t.is(file.done.size, 3)
  t.false(await file.takeBack(), 'labels of an earlier session stay')
  await file.add(labelRow(item(3), 'left', 'ann', false, time))
  await file.add(labelRow(item(4), 'left', 'ann', false, time))
  t.true(await file.takeBack())
  t.true(await file.takeBack())
  t.false(await file.takeBack())
  await file.close()
  t.is(await readFile(path, 'utf8'), before)
})

test('a line is on the disk when add settles; a torn last line goes, a whole one without its end stays', async (t) => {
  const path = join(await temporaryFolder(t), 'labels.jsonl')
  const file = await LabelFile.open(path, 'ann')
  await file.add(labelRow(item(0), 'left', 'ann', false, time))
  const first = await readFile(path)
  await file.add(labelRow(item(1), 'right', 'ann', false, time))
  await file.close()
  const whole = await readFile(path)
  for (let cut = first.length + 1; cut < whole.length - 1; cut += 7) {
    await writeFile(path, whole.subarray(0, cut))
    const again = await LabelFile.open(path, 'ann')
    t.true(again.torn)
    t.deepEqual([...again.done], [item(0).key])
    await again.close()
    t.deepEqual(await readFile(path), first)
  }
  await writeFile(path, whole)
  await truncate(path, whole.length - 1)
  const complete = await LabelFile.open(path, 'ann')
  t.false(complete.torn)
  t.is(complete.done.size, 2)
  await complete.close()
  t.deepEqual(await readFile(path), whole)
  await appendFile(path, '{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
  await failsWith(t, () => LabelFile.open(path, 'ann'), 'labels.jsonl line 3', 'a label with "labeler" and "choice"', 'another --output')
})

test('agreement: by content and not by side, skips left out, the later label counts', async (t) => {
  const folder = await temporaryFolder(t)
  // preferred: a or b of the row; ann and bob saw other sides
  const row = (i: number, choice: 'a' | 'b' | Choice, labeler: string, swapped: boolean): LabelRow => labelRow(item(i), choice === 'a' ? (swapped ? 'right' : 'left') : choice === 'b' ? (swapped ? 'left' : 'right') : choice, labeler, swapped, time)
  const ann = ['a', 'a', 'b', 'tie', 'both-bad', 'a', 'skip', 'a'] as const
  const bob = ['a', 'b', 'b', 'tie', 'both-bad', 'tie', 'a', 'skip'] as const
  const files = [
    await writeLines(folder, 'ann.jsonl', [row(0, 'b', 'ann', false), ...ann.map((c, i) => row(i, c, 'ann', i % 3 === 0)), row(20, 'a', 'ann', false)]),
    await writeLines(folder, 'bob.jsonl', bob.map((c, i) => row(i, c, 'bob', i % 2 === 0))),
  ]
  const result = await agreement(files)
  t.is(result.pairs.length, 1)
  const [pair] = result.pairs
  t.like(pair, { labelers: ['ann', 'bob'], rows: 6, agreement: 4 / 6 })
  // ann: a 3, b 1, tie 1, bad 1; bob: a 1, b 2, tie 2, bad 1; chance (3 + 2 + 2 + 1) / 36
  t.true(Math.abs(pair!.kappa! - (4 / 6 - 8 / 36) / (1 - 8 / 36)) < 1e-12)
  t.true(pair!.interval![0] < pair!.kappa! && pair!.kappa! < pair!.interval![1])
  t.like(result.labelers[0], { labeler: 'ann', labels: 9 })
  t.deepEqual(result.labelers[1]!.choices, { left: 1, right: 3, tie: 2, skip: 1, 'both-bad': 1 })
  t.is(result.labelers[1]!.left!.share, 1 / 4)

  await failsWith(t, () => agreement([files[0]!]), 'labels of two labelers or more', 'those of ann alone')
  const far = await writeLines(folder, 'cat.jsonl', [row(30, 'a', 'cat', false)])
  await failsWith(t, () => agreement([files[0]!, far]), 'none in common')
  const wrong = await writeLines(folder, 'wrong.jsonl', [{ prompt: 'p', chosen: 'a', rejected: 'b' }])
  await failsWith(t, () => agreement([files[0]!, wrong]), 'wrong.jsonl line 1', 'a label with "labeler" and "choice"')
})
