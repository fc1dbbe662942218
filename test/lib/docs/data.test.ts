// docs/data.md against the readers: its examples are read, its errors are the ones a user meets.
import { readFileSync } from 'node:fs'

import test from 'ava'

import { shapeName } from '../../../lib/data/records.js'
import { splitOf } from '../../../lib/data/folders.js'
import { dataEndings, formatOf } from '../../../lib/data/formats/formats.js'
import { mappings } from '../../../lib/data/mappings/choose.js'
import { columnsMapping } from '../../../lib/data/mappings/columns.js'
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
    const steps = [() => encoder.whole(row), () => encoder.segments(row), () => encoder.ranked(row), () => encoder.promptOnly(row)]
    for (const [s, step] of steps.entries()) {
      if (uses[s] === 'refused') t.throws(step, { message: /^\[data\] expected/ }, `${shape} step ${s}`)
      else t.notThrows(step, `${shape} step ${s}`)
    }
  }
})

const listed = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!)

test('the endings are those of the formats', (t) => {
  const rows = cells(sections.get('Files')!)
  t.deepEqual(rows.flatMap((row) => listed(row[1]!)), dataEndings)
  for (const [kind, endings] of rows) for (const ending of listed(endings!)) t.is(formatOf(`rows${ending}`)?.kind, kind, ending)
})

test('the words of a split are those that file names are told by', (t) => {
  const text = sections.get('Files')!
  const words = (before: string): string[] => listed(new RegExp(`${before} \\(([^)]*)\\)`).exec(text.replaceAll('\n', ' '))![1]!)
  for (const [before, split] of [['train split', 'train'], ['validation split', 'validation'], ['test split', 'test']] as const) {
    t.true(words(before).length > 1)
    for (const word of words(before)) t.is(splitOf(`${word}-0.csv`), split)
  }
})

test('the known sets are those of lib/data/mappings/, in their order', (t) => {
  const rows = cells(sections.get('Known sets')!)
  t.deepEqual(
    rows.map(([set, columns, byColumns]) => [listed(set!).length > 0 ? listed(set!) : [set], listed(columns!), byColumns]),
    mappings.map(({ name, sets, columns, signature }) => [sets.length > 0 ? sets : [name], columns, signature ? 'yes' : '']),
  )
  for (const { name, repo } of mappings) if (repo) t.true(rows.some((row) => row[0]!.includes(name) && row[3]!.includes(repo)))
})

test('the fields of --columns are those it takes', (t) => {
  const fields = listed(/Before `=` stands one of ([^;]*);/.exec(sections.get('Any other set')!.replaceAll('\n', ' '))![1]!)
  const error = t.throws(() => columnsMapping('nothing=x'))
  t.true(error.message.includes(`one of the fields ${fields.join(', ')} before`), error.message)
  t.notThrows(() => columnsMapping(/--columns (\S+)/.exec(fenced(sections.get('Any other set')!, 'sh')[0]!)![1]!))
})

for (const [row, message] of cells(sections.get('Errors')!)) {
  test(`the error for ${plain(row!)}`, (t) => {
    t.is(t.throws(() => parseRow(JSON.parse(plain(row!)), at)).message, plain(message!))
  })
}
