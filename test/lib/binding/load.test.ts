import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { loadAddon } from '../../../lib/binding/load.js'

function rootWith(t: ExecutionContext, content: string | null): string {
  const root = mkdtempSync(join(tmpdir(), 'threefold-load-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  mkdirSync(join(root, 'build', 'Release'), { recursive: true })
  if (content !== null) writeFileSync(join(root, 'build', 'Release', 'threefold.node'), content)
  return root
}

test('loads what npm install built', (t) => {
  const addon = loadAddon() as { cpuInfo(): { available: string[] } }
  t.true(addon.cpuInfo().available.includes('portable'))
})

test('no binary: names the path and the command', (t) => {
  const root = rootWith(t, null)
  const error = t.throws(() => loadAddon(root), { instanceOf: ThreefoldError })
  t.true(error.expected.includes(join(root, 'build', 'Release', 'threefold.node')))
  t.is(error.received, 'no such file')
  t.regex(error.cure, /npm rebuild threefold.*scripts\/install\.mjs.*npm 12/)
})

test("a damaged binary: shows the loader's words", (t) => {
  const error = t.throws(() => loadAddon(rootWith(t, 'not a shared library, whatever its name says')), { instanceOf: ThreefoldError })
  t.regex(error.received, /ELF|mach-o|file too short|dlopen/i)
  t.regex(error.cure, /npm rebuild threefold/)
})

test('a Node that is too old', (t) => {
  const error = t.throws(() => loadAddon(rootWith(t, null), 7), { instanceOf: ThreefoldError })
  t.regex(error.expected, /Node 20\.19/)
})
