// docs/data.md against the readers: its examples are read, its errors are the ones a user meets.
import { readFileSync } from 'node:fs'

import test from 'ava'

import { shapeName } from '../../../lib/data/records.js'
import { parseRow } from '../../../lib/data/rowShapes.js'
import { RowEncoder } from '../../../lib/data/rowIds.js'
import { cells, fenced, sectionsOf } from './markdown.js'
import { tinyTokenizer } from '../data/support.js'

const sections = sectionsOf(readFileSync(new URL('../../../docs/data.md', import.meta.url), 'utf8'))
const at = { file: 'rows.jsonl', line: 7, unit: 'line' as const }
const plain = (cell: string): string => cell.replace(/^`|`$/g, '')

const shapes = cells(sections.get('Row shapes')!).map((row) => row[0]!.replace(/`/g, ''))
const examples = fenced(sections.get('Row shapes')!, 'jsonl')[0]!.trim().split('\n')

test('one example of each shape, in the order of the table', (t) => {
  t.is(examples.length, shapes.length)
  for (const [i, line] of examples.entries()) {
    const row = parseRow(JSON.parse(line), at)
    t.truthy(row, line)
    // Transcripts become {prompt, chosen, rejected} when they are read.
    const expected = shapes[i] === '{chosen, rejected}' ? '{prompt, chosen, rejected}' : shapes[i]!.replace('labels?', 'labels')
    t.is(shapeName(row!), expected)
  }
})

test('the table of what each step uses says where a shape is refused', (t) => {
  const encoder = new RowEncoder({ tokenizer: tinyTokenizer(), vocabSize: 100_000 })
  const rows = cells(sections.get('What each step uses')!)
  t.deepEqual(rows.map((row) => row[0]!.replace(/`/g, '')), shapes)
  for (const [i, [shape, ...uses]] of rows.entries()) {
    const row = parseRow(JSON.parse(examples[i]!), at)!
    const steps = [() => encoder.whole(row), () => encoder.segments(row), () => encoder.pair(row), () => encoder.promptOnly(row)]
    for (const [s, step] of steps.entries()) {
      if (uses[s] === 'refused') t.throws(step, { message: /^\[data\] expected/ }, `${shape} step ${s}`)
      else t.notThrows(step, `${shape} step ${s}`)
    }
  }
})

for (const [row, message] of cells(sections.get('Errors')!)) {
  test(`the error for ${plain(row!)}`, (t) => {
    t.is(t.throws(() => parseRow(JSON.parse(plain(row!)), at)).message, plain(message!))
  })
}
