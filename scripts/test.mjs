// All tests: native first, then TypeScript. Ends with one line: `N passed, N failed`.
//   npm test [-- test/lib/data/*.test.ts]   npm run test:native [-- filter]   npm run test:asan [-- filter]
import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'

import { buildTarget, root } from './native.mjs'

const flags = process.argv.slice(2)
const asan = flags.includes('--asan')
const nativeOnly = asan || flags.includes('--native-only')
const filters = flags.filter((f) => !f.startsWith('--'))
let passed = 0
let failed = 0

if (nativeOnly || filters.length === 0) {
  const binary = buildTarget('native_tests', asan ? 'build-asan' : 'build-tests', asan ? ['-DTHREEFOLD_SANITIZE=ON'] : [])
  const done = spawnSync(binary, nativeOnly ? filters : [], { encoding: 'utf8', maxBuffer: 1 << 28 })
  process.stdout.write(done.stdout)
  process.stderr.write(done.stderr)
  const counts = /(\d+) passed, (\d+) failed\s*$/.exec(done.stdout)
  passed += Number(counts?.[1] ?? 0)
  failed += Number(counts?.[2] ?? 1)
  if (done.status !== 0 && failed === 0) failed = 1
}

if (!nativeOnly) {
  const build = spawnSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: 'inherit' })
  if (build.status !== 0) process.exit(1)
  const ava = spawn(process.execPath, [join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs'), '--tap', ...filters], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  let rest = ''
  let detail = false
  ava.stdout.setEncoding('utf8')
  ava.stdout.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      if (/^ok \d+/.test(line)) passed++
      else if (/^not ok \d+/.test(line)) failed++
      detail = /^not ok/.test(line) || (detail && /^\s|^#/.test(line))  // show only what failed
      if (detail) console.log(line)
    }
  })
  const status = await new Promise((resolve) => ava.on('close', resolve))
  if (status !== 0 && failed === 0) failed = 1
}

console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
