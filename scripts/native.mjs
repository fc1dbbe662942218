// Building native code: what install, test and bench share.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const INSTALL = {
  'a C++ compiler': 'apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), xcode-select --install (macOS)',
  CMake: 'apt-get install cmake (Debian, Ubuntu), dnf install cmake (Fedora), brew install cmake (macOS)',
  make: 'apt-get install make (Debian, Ubuntu), dnf install make (Fedora), xcode-select --install (macOS)',
}

/** Prints one error in the house's shape and ends the script. */
export function stop(where, expected, received, cure) {
  console.error(`[${where}] expected ${expected}, received ${received}. Try ${cure}.`)
  process.exit(1)
}

const answers = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0

/** The compiler's command, after checking that everything a build needs is there. */
export function toolchain() {
  const compiler = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean).find(answers)
  const need = (what, found) => found || stop('build', what, 'none on the PATH', INSTALL[what])
  need('a C++ compiler', compiler)
  need('CMake', answers('cmake'))
  need('make', answers('ninja') || answers('make'))
  return compiler
}

/** Runs a command; its output is shown only when it fails (or with THREEFOLD_VERBOSE=1). */
export function run(command, args, options = {}) {
  const verbose = process.env.THREEFOLD_VERBOSE === '1'
  const done = spawnSync(command, args, { cwd: root, stdio: verbose ? 'inherit' : 'pipe', encoding: 'utf8', maxBuffer: 1 << 28, ...options })
  if (done.status !== 0) {
    process.stderr.write((done.stdout ?? '') + (done.stderr ?? ''))
    stop('build', `\`${command} ${args.join(' ')}\` to succeed`, done.error?.message ?? `exit status ${done.status}`, 'mending the first error above')
  }
  return done
}

export const jobs = () => String(Math.max(1, availableParallelism()))

/** Configures and builds one CMake target outside the addon; returns the path of the binary. */
export function buildTarget(target, folder, definitions = []) {
  toolchain()
  const generator = answers('ninja') ? ['-G', 'Ninja'] : []
  run('cmake', ['-S', '.', '-B', folder, ...(existsSync(join(root, folder, 'CMakeCache.txt')) ? [] : generator), '-DTHREEFOLD_ADDON=OFF', ...definitions])
  run('cmake', ['--build', folder, '--target', target, '--parallel', jobs()])
  return join(root, folder, target)
}

function filesUnder(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? filesUnder(join(folder, e.name)) : [join(folder, e.name)]))
    .sort()
}

/** A hash of the contents of files and folders, and of `extra`. */
export function contentHash(paths, extra = '') {
  const hash = createHash('sha256').update(extra)
  for (const path of paths.map((p) => join(root, p))) {
    const files = existsSync(path) && statSync(path).isDirectory() ? filesUnder(path) : [path]
    for (const file of files) if (existsSync(file)) hash.update(file.slice(root.length)).update(readFileSync(file))
  }
  return hash.digest('hex')
}

/** Runs `body` while no other process builds in this checkout. */
export async function locked(body) {
  mkdirSync(join(root, 'build'), { recursive: true })
  const path = join(root, 'build', '.lock')
  for (let waited = 0; ; waited++) {
    try {
      closeSync(openSync(path, 'wx'))
      break
    } catch {
      const age = existsSync(path) ? Date.now() - statSync(path).mtimeMs : 0
      if (age > 15 * 60e3) rmSync(path, { force: true })
      if (waited === 0) console.error('waiting for another build in this checkout')
      await new Promise((r) => setTimeout(r, 500))
    }
  }
  const release = () => rmSync(path, { force: true })
  process.once('exit', release)
  try {
    return await body()
  } finally {
    release()
  }
}
