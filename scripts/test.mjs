// All tests: native first, then TypeScript. Ends with one line: `N passed, N failed`.
//   npm test [-- packing | test/lib/data/*.test.ts]   npm run test:native [-- filter]   npm run test:asan [-- filter]
import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'

import { buildBackend, buildTarget, computing, root, run } from './native.mjs'

const words = process.argv.slice(2)
const asan = words.includes('--asan')
const nativeOnly = asan || words.includes('--native-only')
const filters = words.filter((w) => !w.startsWith('--'))
let passed = 0
let failed = 0

// Also where a build stops this script: whoever reads only the last line must see that something failed.
process.on('exit', (status) => {
  if (failed === 0 && (status !== 0 || passed === 0)) failed = 1
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = failed ? 1 : 0
})

const since = (started) => `${((Date.now() - started) / 1000).toFixed(1)} s`

async function testNative() {
  const binary = await buildTarget('native_tests', asan ? 'build-asan' : 'build-tests', asan ? ['-DTHREEFOLD_SANITIZE=ON'] : [])
  const started = Date.now()
  const env = { UBSAN_OPTIONS: 'print_stacktrace=1', ...process.env }
  const done = spawnSync(binary, filters, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 1 << 28 })
  const counts = /(\d+) passed, (\d+) failed\n$/.exec(done.stdout ?? '')
  process.stdout.write(counts ? done.stdout.slice(0, counts.index) : (done.stdout ?? ''))
  passed += Number(counts?.[1] ?? 0)
  failed += Number(counts?.[2] ?? 0)
  // A sanitizer or a crash ends the process without a count, or after it.
  const clean = counts && (done.status === 0 || Number(counts[2]) > 0 || Number(counts[1]) === 0)
  if (!clean) {
    failed++
    console.log(`FAILED native_tests ended by ${done.error?.message ?? (done.signal ? `signal ${done.signal}` : `exit status ${done.status}`)}`)
  }
  console.log(`native${asan ? ' under the sanitizers' : ''}: ${counts?.[1] ?? 0} passed in ${since(started)}`)
}

async function testTypeScript() {
  for (const script of ['install.mjs', 'prepare.mjs']) run(process.execPath, [join(root, 'scripts', script)])
  await buildBackend('emulated')
  const patterns = filters.flatMap((f) => (/[*/]|\.ts$/.test(f) ? [f] : [`test/**/*${f}*.test.ts`, `test/**/*${f}*/**/*.test.ts`]))
  await ava('TypeScript', patterns)
  if (filters.length === 0) await ava('on the emulated device', computing.map((folder) => `${folder}/**/*.test.ts`), { THREEFOLD_TEST_DEVICE: 'emulated' })
}

async function ava(what, patterns, env = {}) {
  const started = Date.now()
  const before = passed
  const cli = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs')
  const ava = spawn(process.execPath, [cli, '--tap', ...patterns], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } })
  let rest = ''
  let showing = false
  const line = (text) => {
    const result = /^(not )?ok \d+ - (.*)$/.exec(text)
    if (result) {
      const good = !result[1] && !/ # (SKIP|TODO)/i.test(text)  // a test that does not run proves nothing
      if (good) passed++
      else failed++
      showing = !good
      if (showing) console.log(`FAILED ${result[2]}${what === 'TypeScript' ? '' : ` ${what}`}`)
      if (process.stdout.isTTY) process.stdout.write(`\r${passed} passed, ${failed} failed \r`)
    } else if (showing && /^\s/.test(text)) {
      console.log(text)
    } else {
      showing = false
    }
  }
  ava.stdout.setEncoding('utf8')
  ava.stdout.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    lines.forEach(line)
  })
  const status = await new Promise((resolve) => ava.on('close', resolve))
  if (status !== 0 && failed === 0) {
    failed++
    console.log(`FAILED ava ended with exit status ${status}`)
  }
  console.log(`${what}: ${passed - before} passed in ${since(started)}`)
}

if (nativeOnly || filters.length === 0) await testNative()
if (!nativeOnly) await testTypeScript()
