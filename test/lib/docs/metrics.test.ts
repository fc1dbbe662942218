// docs/metrics.md against the names that lib/stages writes.
import { readFileSync, readdirSync } from 'node:fs'

import test from 'ava'

import { cells, sectionsOf } from './markdown.js'

const root = new URL('../../../', import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8')

/** The arguments of every call of `name`, by counting brackets. */
function callsOf(source: string, name: string): string[] {
  const calls: string[] = []
  for (let at = source.indexOf(name + '('); at >= 0; at = source.indexOf(name + '(', at + 1)) {
    const begin = at + name.length + 1
    let depth = 1
    let end = begin
    for (; depth > 0; end++) depth += '([{'.includes(source[end]!) ? 1 : ')]}'.includes(source[end]!) ? -1 : 0
    calls.push(source.slice(begin, end - 1))
  }
  return calls
}

const keysOf = (text: string): string[] => [...text.matchAll(/(?:^|[{,])\s*(?:'([^']+)'|([a-z_]\w*)):/gm)].map((m) => m[1] ?? m[2]!)

/** Metric names of one source: the keys of what it logs, and every key with a slash (those are put together elsewhere). */
function metricNames(source: string): string[] {
  const slashed = [...source.matchAll(/'(\w+(?:\/\w+)+)':/g)].map((m) => m[1]!)
  return [...new Set([...callsOf(source, 'run.log').flatMap(keysOf), ...slashed])].sort()
}

const sampleNames = (source: string): string[] => [...new Set(callsOf(source, 'run.sample').flatMap(keysOf))].sort()

const sections = sectionsOf(read('docs/metrics.md'))
const documented = (title: string): string[] =>
  cells(sections.get(title) ?? '')
    .map((row) => row[0]!.replace(/`/g, ''))
    .sort()

/** Section of docs/metrics.md -> the file it names as its source. */
const sourceOf = new Map([...sections].map(([title, text]) => [title, /[Ww]ritten by `(lib\/stages\/\w+\.ts)`/.exec(text)?.[1] ?? '']))

for (const [title, path] of sourceOf) {
  if (title === 'samples.jsonl') continue
  test(`${title}: the names are those of ${path}`, (t) => {
    t.deepEqual(documented(title), metricNames(read(path)))
  })
}

test('samples.jsonl: the names are those of the sources', (t) => {
  t.deepEqual(documented('samples.jsonl'), sampleNames(read(sourceOf.get('samples.jsonl')!)))
})

test('every stage that writes metrics has a section', (t) => {
  const writing = readdirSync(new URL('lib/stages/', root))
    .map((name) => `lib/stages/${name}`)
    .filter((path) => /run\.(log|sample)\(/.test(read(path)))
  t.deepEqual(writing.sort(), [...new Set(sourceOf.values())].sort())
})

test('every name has a meaning', (t) => {
  for (const title of sections.keys()) for (const row of cells(sections.get(title)!)) t.true(row.length === 3 && row[2] !== '', row.join(' | '))
})

test('names are found in a source', (t) => {
  const source = `const about = { 'objective/kl': kl(x) }
    run.log(step, { loss: a ? b : c, 'eval/loss': f({ x: [1] }), ...about })
    run.sample(step, { answer: text(e), finish: e.finish === 'length' ? 1 : 0 })`
  t.deepEqual(metricNames(source), ['eval/loss', 'loss', 'objective/kl', 'x'])
  t.deepEqual(sampleNames(source), ['answer', 'finish'])
})
