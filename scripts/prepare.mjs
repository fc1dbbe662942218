// Compiles lib/ to dist/ in a checkout, and says in one line what was built.
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { addon, addonStamp, backendPath, filesUnder, locked, nvcc, root, run, stop } from './native.mjs'

const require = createRequire(import.meta.url)
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const dist = join(root, 'dist')

let tsc
try {
  tsc = require.resolve('typescript/bin/tsc')
} catch {
  if (existsSync(join(dist, 'index.js'))) process.exit(0)  // an installed package carries dist and needs no compiler
  stop('prepare', 'TypeScript in node_modules to compile a checkout', 'none', '`npm install` without --omit=dev')
}

/** Outputs whose source is gone would go on answering imports. */
function removeOrphans() {
  for (const file of filesUnder(dist)) {
    const source = file.slice(dist.length).replace(/(\.d\.ts|\.js)$/, '.ts')
    if (source.endsWith('.ts') && !existsSync(join(root, 'lib', source))) rmSync(file)
  }
}

function howToGetCuda() {
  return nvcc() ? 'THREEFOLD_CUDA=on npm install builds it' : 'it needs nvcc'
}

/** Whether there is a CUDA module, and one of this addon's build. */
function describeCuda(native) {
  const module = backendPath('cuda')
  if (!existsSync(module)) return `no, ${howToGetCuda()}`
  try {
    native.backendDevices(module)
  } catch (error) {
    if (String(error.message).includes('of another build')) return 'of another build, npm run build:cuda renews it'
  }
  return 'yes'  // without a driver too: doctor says what is missing
}

/** What the addon on this machine can do; where it fails to load, the reason in one error. */
function describeAddon() {
  try {
    const native = require(addon)
    return `(cpu: ${native.cpuInfo().available.join(', ')}; cuda: ${describeCuda(native)})`
  } catch (error) {
    return stop('prepare', 'the built addon to load', String(error.message).split('\n')[0], '`rm -r build build-cmake` and `npm install` again')
  }
}

await locked('dist', () => {
  const started = Date.now()
  const emitted = run(process.execPath, [tsc, '-b', '--listEmittedFiles', 'tsconfig.json'], 'prepare').includes('.js')
  removeOrphans()
  const main = join(dist, 'cli', 'main.js')
  if (existsSync(main)) chmodSync(main, 0o755)
  const compileSeconds = (Date.now() - started) / 1000

  let what = 'no addon (run `node scripts/install.mjs`)'
  let buildSeconds = 0
  if (existsSync(addon)) {
    const { unreported, ...stamp } = existsSync(addonStamp) ? JSON.parse(readFileSync(addonStamp, 'utf8')) : {}
    buildSeconds = unreported ?? 0
    if (unreported !== undefined) writeFileSync(addonStamp, JSON.stringify(stamp))
    what = `addon ${buildSeconds ? 'built' : 'up to date'} ${describeAddon()}`
  }
  const seconds = Math.max(1, Math.round(compileSeconds + buildSeconds))
  const end = emitted || buildSeconds ? `and TypeScript ${emitted ? 'compiled' : 'up to date'} in ${seconds} s` : 'and TypeScript up to date'
  console.log(`threefold ${version}: ${what} ${end}. Try: npx threefold demo`)
})
