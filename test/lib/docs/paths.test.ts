// Files that the documentation names exist.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { posix } from 'node:path'

import test from 'ava'

const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...readdirSync('docs').map((name) => `docs/${name}`)].filter((p) => p.endsWith('.md'))

/** Links to files, and paths in backticks that begin with a folder of the repository. Patterns and placeholders are left out. */
function named(page: string, text: string): string[] {
  const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map((m) => m[1]!).filter((target) => !/^[a-z]+:/.test(target))
  const prose = text.replace(/^```[\s\S]*?^```$/gm, '')
  const paths = [...prose.matchAll(/`((?:lib|native|test|docs|scripts|bench|examples)\/[^`\s]*)`/g)].map((m) => m[1]!)
  return [...links.map((target) => posix.join(posix.dirname(page), target)), ...paths.filter((path) => !/[<>*{]/.test(path) && !/\bname_test/.test(path))]
}

/** Anchors within a page: "#the-house". */
const anchors = (text: string): string[] => [...text.matchAll(/\]\(#([^)]+)\)/g)].map((m) => m[1]!)
const headings = (text: string): string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map((m) =>
    m[1]!
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replace(/\s/g, '-'),
  )

for (const page of pages) {
  const text = readFileSync(page, 'utf8')

  test(`${page}: every file it names exists`, (t) => {
    t.deepEqual(
      named(page, text).filter((path) => !existsSync(path)),
      [],
    )
  })

  test(`${page}: every anchor leads to a heading`, (t) => {
    t.deepEqual(
      anchors(text).filter((anchor) => !headings(text).includes(anchor)),
      [],
    )
  })
}

test('names of files are found in a page', (t) => {
  t.deepEqual(named('docs/a.md', 'see [b](b.md#part), [web](https://example.org) and `lib/base/x.ts`, not `lib/<name>.ts`'), ['docs/b.md', 'lib/base/x.ts'])
  t.deepEqual(anchors('[the house](#the-house)'), headings('## The house'))
})
