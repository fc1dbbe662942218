// Compiles lib/ to dist/ in a checkout, and says in one line what was built.
import { chmodSync, existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { root, run } from './native.mjs'

const require = createRequire(import.meta.url)
let tsc
try {
  tsc = require.resolve('typescript/bin/tsc')
} catch {
  if (existsSync(join(root, 'dist', 'index.js'))) process.exit(0)  // an installed package carries dist and no compiler
  throw new Error('[prepare] expected typescript in node_modules, received none. Try npm install.')
}
const started = Date.now()
run(process.execPath, [tsc, '-b', 'tsconfig.json'])
const main = join(root, 'dist', 'cli', 'main.js')
if (existsSync(main)) chmodSync(main, 0o755)

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const stamp = join(root, 'build', 'Release', 'threefold.json')
let addon = 'addon not built: run `node scripts/install.mjs`'
if (existsSync(stamp)) {
  const { available } = require(join(root, 'build', 'Release', 'threefold.node')).cpuInfo()
  addon = `addon for the CPU (${available.join(', ')}; no CUDA) built in ${JSON.parse(readFileSync(stamp, 'utf8')).seconds} s`
}
console.log(`threefold ${version}: ${addon}, TypeScript compiled in ${((Date.now() - started) / 1000).toFixed(1)} s. Try: npx threefold demo`)
