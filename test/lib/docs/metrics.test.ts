// docs/metrics.md against the names that lib/stages writes.
import { readFileSync, readdirSync } from 'node:fs'

import test from 'ava'

import { alarmNames } from '../../../lib/stages/alarms.js'
import { cells, sectionsOf } from './markdown.js'

const root = new URL('../../../', import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8')

/** What stands behind each `opening`, up to the bracket that closes it. */
function blocksOf(source: string, opening: string): string[] {
  const blocks: string[] = []
  for (let at = source.indexOf(opening); at >= 0; at = source.indexOf(opening, at + 1)) {
    const begin = at + opening.length
    let depth = 1
    let end = begin
    for (; depth > 0; end++) depth += '([{'.includes(source[end]!) ? 1 : ')]}'.includes(source[end]!) ? -1 : 0
    blocks.push(source.slice(begin, end - 1))
  }
  return blocks
}
const callsOf = (source: string, name: string): string[] => blocksOf(source, name + '(')

const keysOf = (text: string): string[] => [...text.matchAll(/(?:^|[{,])\s*(?:'([^']+)'|([a-z_]\w*)):/gm)].map((m) => m[1] ?? m[2]!)

/** Metric names of one source: the keys of what it logs, of what it gives to be logged, and every key with a slash. */
function metricNames(source: string): string[] {
  const slashed = /'(\w+(?:\/\w+)+)':/g
  const logged = [...callsOf(source, 'run.log'), ...blocksOf(source, 'metrics: {'), ...blocksOf(source, 'return {').filter((text) => text.search(slashed) >= 0)].flatMap(keysOf)
  return [...new Set([...logged, ...[...source.matchAll(slashed)].map((m) => m[1]!)])].sort()
}

const sampleNames = (source: string): string[] => [...new Set(callsOf(source, 'run.sample').flatMap(keysOf))].sort()

const { Alarms: alarms, ...rest } = Object.fromEntries(sectionsOf(read('docs/metrics.md')))
const sections = new Map(Object.entries(rest))
const documented = (title: string): string[] =>
  cells(sections.get(title) ?? '')
    .map((row) => row[0]!.replace(/`/g, ''))
    .sort()

/** Section of docs/metrics.md -> the files it names as its sources. */
const sourcesOf = new Map([...sections].map(([title, text]) => [title, [...(/[Ww]ritten by (.*)/.exec(text)?.[1] ?? '').matchAll(/`(lib\/stages\/\w+\.ts)`/g)].map((m) => m[1]!)]))
const namesIn = (title: string, of: (source: string) => string[]): string[] => [...new Set(sourcesOf.get(title)!.flatMap((path) => of(read(path))))].sort()

for (const [title, paths] of sourcesOf) {
  test(`${title}: the names are those of ${paths.join(', ')}`, (t) => {
    t.true(paths.length > 0)
    t.deepEqual(documented(title), namesIn(title, title === 'samples.jsonl' ? sampleNames : metricNames))
  })
}

test('Alarms: the names are those of lib/stages/alarms.ts, in its order', (t) => {
  t.deepEqual(
    cells(alarms!).map(([name]) => name!.replace(/`/g, '')),
    alarmNames,
  )
})

test('every file that writes metrics is named in a section', (t) => {
  const writing = readdirSync(new URL('lib/stages/', root))
    .map((name) => `lib/stages/${name}`)
    .filter((path) => /run\.(log|sample)\(/.test(read(path)))
  t.true(writing.length > 2)
  t.deepEqual(writing.filter((path) => ![...sourcesOf.values()].flat().includes(path)), [])
})

test('every name has a meaning', (t) => {
  for (const title of sections.keys()) for (const row of cells(sections.get(title)!)) t.true(row.length === 3 && row[2] !== '', row.join(' | '))
})

test('names are found in a source', (t) => {
  const source = `const about = { 'objective/kl': kl(x) }
    run.log(step, { loss: a ? b : c, 'eval/loss': f({ x: [1] }), ...about })
    return { 'val/ratio': 1, plain: 2 }
    return { other: 3, metrics: { tokens: 4 } }
    run.sample(step, { answer: text(e), finish: e.finish === 'length' ? 1 : 0 })`
  t.deepEqual(metricNames(source), ['eval/loss', 'loss', 'objective/kl', 'plain', 'tokens', 'val/ratio', 'x'])
  t.deepEqual(sampleNames(source), ['answer', 'finish'])
})
