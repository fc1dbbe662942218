// Packs what a bare Linux machine with an NVIDIA driver needs to check this commit: Node, the addon and the modules of its
// devices, the native tests and the ladder, the library and its tests as JavaScript, their packages, fixtures. Unpacked, its
// `gpu-check` needs no network and nothing that is not in it but the C and C++ libraries. Inside, all is LZMA, which makes Node
// a third smaller than gzip does; the decoder goes with it.
//   npm run gpu:bundle [-- --device emulated] [--out threefold-gpu.tar.gz]     emulated: without the CUDA module, needs no nvcc
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, closeSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'

import { addon, backendPath, buildBackend, buildTarget, computing, filesUnder, root, run, stop } from './native.mjs'

const limit = 40e6
const words = process.argv.slice(2)
const flag = (name, fallback) => {
  const at = words.indexOf(`--${name}`)
  return at < 0 ? fallback : (words[at + 1] ?? stop('gpu-bundle', `a value for --${name}`, 'none', `--${name} ${fallback}`))
}
const device = flag('device', 'cuda')
if (device !== 'cuda' && device !== 'emulated') stop('gpu-bundle', '--device cuda or emulated', device, '--device cuda')
const out = resolve(flag('out', join(root, 'threefold-gpu.tar.gz')))

const work = join(root, 'build-gpu')
const folder = join(work, 'threefold-gpu')
const at = (...parts) => join(folder, ...parts)
const size = (path) => `${(statSync(path).size / 1e6).toFixed(1)} MB`

/** Copies one file; of a binary what only debuggers read is left out, where there is a `strip`. */
function put(from, to, { binary = false } = {}) {
  mkdirSync(dirname(to), { recursive: true })
  cpSync(from, to, { dereference: true })
  if (binary) {
    chmodSync(to, 0o755)
    spawnSync('strip', [to], { stdio: 'ignore' })
  }
}

/** lib/ and the tests of computing, with what these import: JavaScript under lib/ and test/. */
function compile() {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
  const js = join(work, 'js')
  rmSync(js, { recursive: true, force: true })
  const config = join(work, 'tsconfig.json')
  const options = { noEmit: false, composite: false, incremental: false, tsBuildInfoFile: null, declaration: false, rootDir: '..', outDir: 'js' }
  writeFileSync(config, JSON.stringify({ extends: '../tsconfig.json', compilerOptions: options, include: ['../lib/**/*.ts', ...computing.map((tests) => `../${tests}/**/*.ts`)] }))
  run(process.execPath, [tsc, '-p', config], 'gpu-bundle')
  for (const part of ['lib', 'test']) cpSync(join(js, part), at(part), { recursive: true })
}

/** The packages that the compiled files name, and all that those need. */
function packages() {
  const named = new Set(['ava'])
  for (const file of [...filesUnder(at('lib')), ...filesUnder(at('test'))])
    for (const [, name] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'((?:@[\w.-]+\/)?[a-z][\w.-]*)/g)) if (!name.startsWith('node:')) named.add(name)
  const modules = join(root, 'node_modules')
  const unused = new Set(['@vercel/nft']) // of ava: for its watch mode
  const found = new Map()
  const add = (name, from) => {
    if (unused.has(name)) return
    let place = from
    while (!existsSync(join(place, 'node_modules', name))) {
      if (place === dirname(place)) return // optional, and not here
      place = dirname(place)
    }
    const path = join(place, 'node_modules', name)
    if (found.has(path)) return
    const manifest = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
    found.set(path, manifest)
    for (const other of Object.keys(manifest.dependencies ?? {})) add(other, path)
  }
  const base = dirname(realpathSync(modules))
  for (const name of named) if (existsSync(join(modules, name))) add(name, base)
  for (const path of found.keys())
    for (const file of filesUnder(path)) {
      const inside = relative(path, file)
      if (/(^|\/)node_modules\//.test(inside)) continue // found on its own where it is needed
      if (/\.(c|m)?js$|\.json$|\.wasm$|(^|\/)(licen[cs]e|notice)[^/]*$/i.test(inside)) put(file, join(at('node_modules'), relative(join(base, 'node_modules'), path), inside))
    }
  return found.size
}

/** `from` as LZMA in `to`, and the proof that the decoder of the bundle undoes it. */
function compress(from, to) {
  const through = (command, args, input, output) => {
    const [read, write] = [openSync(input, 'r'), openSync(output, 'w')]
    const done = spawnSync(command, args, { stdio: [read, write, 'inherit'] })
    closeSync(read)
    closeSync(write)
    if (done.status !== 0) stop('gpu-bundle', `${command} to pack ${input}`, done.error?.message ?? `exit status ${done.status}`, '`apt-get install xz-utils` (Debian, Ubuntu), `dnf install xz` (Fedora)')
  }
  const [packing, again] = [`${to}.new`, `${to}.again`]
  through('xz', ['--format=lzma', '-9', '-c'], from, packing)
  through(unlzma, [], packing, again)
  if (!readFileSync(from).equals(readFileSync(again))) stop('gpu-bundle', `${from} back from the decoder`, 'other bytes', 'reporting this as a bug')
  rmSync(again)
  renameSync(packing, to)
}

/** Node's binary, stripped and packed; kept, because packing it takes half a minute. */
function packedNode() {
  const stripped = join(work, 'node')
  put(process.execPath, stripped, { binary: true })
  const name = `node-${createHash('sha256').update(readFileSync(stripped)).digest('hex').slice(0, 16)}.lzma`
  const kept = join(work, name)
  for (const other of readdirSync(work)) if (/^node-.*\.lzma/.test(other) && other !== name) rmSync(join(work, other))
  if (!existsSync(kept)) compress(stripped, kept)
  return kept
}

function commit() {
  const git = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim()
  const changed = git('status', '--porcelain', '--untracked-files=no')
  return `${git('rev-parse', 'HEAD') || 'unknown'}${changed ? ' with changes' : ''}`
}

if (!existsSync(join(root, 'bench', 'gpu'))) stop('gpu-bundle', 'a checkout, with bench/ and test/', `none in ${root}`, 'a clone of the repository')
if (process.platform !== 'linux') stop('gpu-bundle', 'Linux, for which the binaries are built', process.platform, 'a Linux machine or container')
const started = performance.now()
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

run(process.execPath, [join(root, 'scripts', 'install.mjs')])
const kinds = device === 'cuda' ? ['cuda', 'emulated'] : ['emulated']
for (const kind of kinds) await buildBackend(kind)
const binaries = [await buildTarget('native_tests', 'build-tests'), await buildTarget('bench_ladder', 'build-tests')]
const unlzma = await buildTarget('unlzma', 'build-tests')

put(addon, at('build', 'Release', 'threefold.node'), { binary: true })
for (const kind of kinds) put(backendPath(kind), at('build', 'Release', `threefold_${kind}.so`), { binary: true })
for (const path of binaries) put(path, at('bin', path.split('/').at(-1)), { binary: true })
compile()
const packed = packages()
for (const file of filesUnder(join(root, 'bench', 'gpu'))) put(file, at('bench', 'gpu', relative(join(root, 'bench', 'gpu'), file)))
put(join(root, 'bench', 'peers', 'torch_ladder.py'), at('bench', 'peers', 'torch_ladder.py'))
for (const kind of ['models', 'adapters', 'formulas']) cpSync(join(root, 'test', 'fixtures', kind), at('test', 'fixtures', kind), { recursive: true })
put(join(root, 'LICENSE'), at('LICENSE'))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const ava = { files: ['test/**/*.test.js'], workerThreads: false, timeout: manifest.ava.timeout }
writeFileSync(at('package.json'), JSON.stringify({ name: manifest.name, version: manifest.version, type: 'module', license: manifest.license, ava }, null, 2) + '\n')
writeFileSync(at('commit'), `${commit()}\n`)

const outer = join(work, 'outer', 'threefold-gpu')
rmSync(dirname(outer), { recursive: true, force: true })
put(packedNode(), join(outer, 'node.lzma'))
const tar = (from, ...rest) => run('tar', ['-C', from, '--sort=name', '--owner=0', '--group=0', '--numeric-owner', ...rest], 'gpu-bundle')
tar(folder, '-cf', join(work, 'rest.tar'), '.')
compress(join(work, 'rest.tar'), join(outer, 'rest.tar.lzma'))
put(unlzma, join(outer, 'unlzma'), { binary: true })
put(join(root, 'bench', 'gpu', 'gpu-check.sh'), join(outer, 'gpu-check'))
chmodSync(join(outer, 'gpu-check'), 0o755)
put(join(root, 'docs', 'gpu.md'), join(outer, 'README.md'))
tar(dirname(outer), '-czf', out, 'threefold-gpu')

const bytes = statSync(out).size
console.log(`threefold: ${out}, ${(bytes / 1e6).toFixed(1)} MB, in ${Math.round((performance.now() - started) / 1000)} s; commit ${commit()}`)
console.log(`inside: Node ${size(join(outer, 'node.lzma'))}; the rest ${size(join(outer, 'rest.tar.lzma'))}, with ${kinds.map((kind) => `the ${kind} module`).join(', ')} and ${packed} packages`)
console.log(`there: tar xzf ${out.split('/').at(-1)} && threefold-gpu/gpu-check${device === 'emulated' ? ' --device emulated' : ''}`)
if (bytes >= limit) stop('gpu-bundle', `a bundle under ${limit / 1e6} MB`, `${(bytes / 1e6).toFixed(1)} MB`, 'fewer fixtures, or THREEFOLD_CUDA_ARCHS with fewer architectures')
