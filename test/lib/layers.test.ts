// Holds the order of folders in layers.json for lib/ and native/.
import { readFileSync, readdirSync } from 'node:fs'
import { posix, sep } from 'node:path'

import test from 'ava'

interface Layers {
  lib: string[]
  /** Folders that may import from these folders alone. */
  libOnly: Record<string, string[]>
  native: string[]
  /** Inner folders that only these folders may include. */
  nativeInner: Record<string, string[]>
  loader: string
  nodeApi: string
}
interface Source {
  /** From the root, with forward slashes. */
  path: string
  text: string
}

const layers = JSON.parse(readFileSync('layers.json', 'utf8')) as Layers

function sourcesUnder(folder: string, ending: RegExp): Source[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile() && ending.test(e.name))
    .map((e) => [e.parentPath, e.name].join('/').split(sep).join('/'))
    .map((path) => ({ path, text: readFileSync(path, 'utf8') }))
}

/** Every module a TypeScript file names: static, type-only, side effect, re-export, dynamic, `typeof import`, require. */
function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:\bfrom|\bimport|\bimport\s*\(|\brequire(?:\.resolve)?\s*\()\s*['"`]([^'"`\n]+)['"`]/g)].map((m) => m[1]!)
}

function checkLib({ path, text }: Source): string[] {
  const found: string[] = []
  const layerOf = (file: string) => file.split('/')[1]!
  const own = layerOf(path)
  if (!layers.lib.includes(own)) found.push(`${path}: ${own} is not in layers.json`)
  if (path.endsWith('/index.ts') && path !== 'lib/index.ts') found.push(`${path}: no barrel files inside; import the file that has the name`)
  if (path !== layers.loader && (/\.node['"`]/.test(text) || /\bdlopen\b/.test(text))) found.push(`${path}: only ${layers.loader} loads the addon`)
  for (const name of importsOf(text)) {
    if (/^threefold(\/|$)/.test(name)) found.push(`${path}: imports ${name}, the package itself`)
    if (!name.startsWith('.')) continue
    const target = posix.join(posix.dirname(path), name)
    const layer = layerOf(target)
    if (!target.startsWith('lib/')) found.push(`${path}: imports ${name}, outside lib`)
    else if (layers.lib.indexOf(layer.replace(/\.js$/, '.ts')) > layers.lib.indexOf(own)) found.push(`${path}: imports ${name}, but ${layer} comes after ${own}`)
    else if (layer !== own && layers.libOnly[own]?.includes(layer) === false) found.push(`${path}: imports ${name}, but ${own} may use ${layers.libOnly[own].join(', ')} alone`)
  }
  return found
}

function checkNative({ path, text }: Source): string[] {
  const found: string[] = []
  const own = path.split('/')[1]!
  if (!layers.native.includes(own)) found.push(`${path}: ${own} is not in layers.json`)
  for (const match of text.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)) {
    const name = match[2]!
    const target = name.startsWith('.') || (match[1] === '"' && !name.includes('/')) ? posix.join(posix.dirname(path), name) : `native/${name}`
    const layer = target.split('/')[1]!
    const inner = Object.keys(layers.nativeInner).find((folder) => target.startsWith(`native/${folder}/`))
    if (/^(napi|node_api|js_native_api|uv|v8|node)(\.h|-inl\.h)$/.test(posix.basename(name)) && !path.startsWith(`${layers.nodeApi}/`)) {
      found.push(`${path}: includes ${name}, but only ${layers.nodeApi} sees Node`)
    } else if (layers.native.indexOf(layer) > layers.native.indexOf(own)) {
      found.push(`${path}: includes ${name}, but ${layer} comes after ${own}`)
    } else if (inner && !layers.nativeInner[inner]!.includes(own)) {
      found.push(`${path}: includes ${name}, but only ${layers.nativeInner[inner]!.join(' and ')} may include ${inner}`)
    } else if (match[1] === '"' && !target.startsWith('native/')) {
      found.push(`${path}: includes ${name}, outside native`)
    }
  }
  return found
}

const libSources = sourcesUnder('lib', /\.ts$/)
const nativeSources = sourcesUnder('native', /\.(h|cc|inl|cu|cuh)$/)

test('lib: a folder imports only from folders above it in layers.json', (t) => {
  t.true(libSources.length > 10)
  t.deepEqual(libSources.flatMap(checkLib), [])
})

test('native: a folder includes only from folders above it in layers.json', (t) => {
  t.true(nativeSources.length > 10)
  t.deepEqual(nativeSources.flatMap(checkNative), [])
})

test('no source file is longer than 500 lines', (t) => {
  const long = [...libSources, ...nativeSources].filter((s) => s.text.split('\n').length > 500).map((s) => s.path)
  t.deepEqual(long, [])
})

// The checks are seen to fail: each row is a wrong file and a part of what must be said about it.
const wrongLib: [path: string, text: string, complaint: string][] = [
  ['lib/base/x.ts', `import { a } from '../stages/sft.js'`, 'stages comes after base'],
  ['lib/base/x.ts', `import type { A } from '../stages/sft.js'`, 'stages comes after base'],
  ['lib/base/x.ts', `import type {\n  A,\n  B,\n} from '../data/records.js'`, 'data comes after base'],
  ['lib/base/x.ts', `export * from '../cli/main.js'`, 'cli comes after base'],
  ['lib/base/x.ts', `import '../cli/main.js'`, 'cli comes after base'],
  ['lib/base/x.ts', `const a = await import('../cli/main.js')`, 'cli comes after base'],
  ['lib/base/x.ts', `type A = typeof import("../cli/main.js")`, 'cli comes after base'],
  ['lib/base/x.ts', 'const a = await import(`../cli/main.js`)', 'cli comes after base'],
  ['lib/model/families/x.ts', `import { a } from '../../stages/sft.js'`, 'stages comes after model'],
  ['lib/stages/x.ts', `import { a } from '../index.js'`, 'index.js comes after stages'],
  ['lib/index.ts', `export { a } from './cli/main.js'`, 'cli comes after index.ts'],
  ['lib/rlhf/x.ts', `import { a } from '../data/records.js'`, 'rlhf may use base alone'],
  ['lib/base/x.ts', `import { a } from '../../test/help.js'`, 'outside lib'],
  ['lib/base/x.ts', `import { a } from 'threefold'`, 'the package itself'],
  ['lib/misc/x.ts', '', 'misc is not in layers.json'],
  ['lib/data/index.ts', `export * from './records.js'`, 'no barrel files'],
  ['lib/tensor/x.ts', `require('../../build/Release/threefold.node')`, 'only lib/binding/load.ts loads the addon'],
  ['lib/binding/native.ts', `process.dlopen(module, path)`, 'only lib/binding/load.ts loads the addon'],
]
for (const [path, text, complaint] of wrongLib) {
  test(`seen to fail: ${path}: ${text.replace(/\s+/g, ' ') || 'an unknown folder'}`, (t) => {
    t.true(checkLib({ path, text }).some((c) => c.includes(complaint)), checkLib({ path, text }).join('\n'))
  })
}

const wrongNative: [path: string, text: string, complaint: string][] = [
  ['native/core/x.h', '#include "kernels/kernels.h"', 'kernels comes after core'],
  ['native/core/x.h', '#  include <blocks/layer.h>', 'blocks comes after core'],
  ['native/core/x.cc', '#include "../kernels/kernels.h"', 'kernels comes after core'],
  ['native/blocks/x.cc', '#include "kernels/cpu/isa.h"', 'only kernels and binding may include kernels/cpu'],
  ['native/kernels/cpu/x.cc', '#include <napi.h>', 'only native/binding sees Node'],
  ['native/blocks/x.cc', '#include "node_api.h"', 'only native/binding sees Node'],
  ['native/core/x.cc', '#include "../../test/native/check.h"', 'outside native'],
  ['native/misc/x.cc', '', 'misc is not in layers.json'],
]
for (const [path, text, complaint] of wrongNative) {
  test(`seen to fail: ${path}: ${text || 'an unknown folder'}`, (t) => {
    t.true(checkNative({ path, text }).some((c) => c.includes(complaint)), checkNative({ path, text }).join('\n'))
  })
}

test('right imports are left alone', (t) => {
  const lib = `import { readFile } from 'node:fs/promises'\nimport { fail } from '../base/errors.js'\nimport { a } from './b.js'\nprocess.versions.node`
  t.deepEqual(checkLib({ path: 'lib/data/x.ts', text: lib }), [])
  t.deepEqual(checkLib({ path: 'lib/cli/x.ts', text: `import { sft } from '../index.js'` }), [])
  const native = '#include <vector>\n#include <immintrin.h>\n#include "core/dtype.h"\n#include "kernels/cpu/isa.h"'
  t.deepEqual(checkNative({ path: 'native/kernels/cpu/x.cc', text: native }), [])
  t.deepEqual(checkNative({ path: 'native/binding/x.cc', text: '#include <napi.h>\n#include "kernels/cpu/isa.h"' }), [])
})
