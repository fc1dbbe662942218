// Building native code: what install, test and bench share.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** The modules of devices beside it. */
export const backendPath = (kind) => join(root, 'build', 'Release', `threefold_${kind}.so`)

/** Folders of tests of computing, which run on every device: scripts/test.mjs on the emulated one, a bundle on a GPU. */
export const computing = ['contracts', 'engine', 'model', 'optim', 'rollout', 'tensor'].map((folder) => `test/lib/${folder}`)

/** The addon and the note beside it that says from what it was built. */
export const addon = join(root, 'build', 'Release', 'threefold.node')
export const addonStamp = join(root, 'build', 'Release', 'threefold.json')

const INSTALL = {
  'a C++ compiler': '`apt-get install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora) or `xcode-select --install` (macOS)',
  'CMake 3.18 or newer': '`apt-get install cmake` (Debian, Ubuntu), `dnf install cmake` (Fedora) or `brew install cmake` (macOS)',
  'make or ninja': '`apt-get install make` (Debian, Ubuntu), `dnf install make` (Fedora) or `xcode-select --install` (macOS)',
}

/** Prints one error in the house's shape and ends the script. */
export function stop(where, expected, received, cure) {
  console.error(`[${where}] expected ${expected}, received ${received}. Try ${cure}.`)
  process.exit(1)
}

/** The first line of `command --version`, or nothing where there is no such command. */
function version(command) {
  const done = spawnSync(command, ['--version'], { encoding: 'utf8' })
  return done.status === 0 ? `${command}: ${done.stdout.split('\n')[0]}` : undefined
}

/** The C++ compiler CMake will take, with its version; nothing where there is none. */
export function compiler() {
  for (const command of process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']) {
    const found = version(command)
    if (found) return found
  }
}

/** Stops with one message where the build lacks something. */
export function requireTools() {
  const need = (what, found) => found || stop('build', what, 'none on the PATH', INSTALL[what])
  need('a C++ compiler', compiler())
  const cmake = need('CMake 3.18 or newer', version('cmake'))
  const [, major, minor] = /(\d+)\.(\d+)/.exec(cmake) ?? [, 0, 0]
  if (Number(major) === 3 && Number(minor) < 18) stop('build', 'CMake 3.18 or newer', `${major}.${minor}`, INSTALL['CMake 3.18 or newer'])
  need('make or ninja', version('ninja') ?? version('make'))
}

/** Runs a command; its output is shown only when it fails (or with THREEFOLD_VERBOSE=1). */
export function run(command, args, where = 'build') {
  const verbose = process.env.THREEFOLD_VERBOSE === '1'
  const done = spawnSync(command, args, { cwd: root, stdio: ['ignore', verbose ? 'inherit' : 'pipe', verbose ? 'inherit' : 'pipe'], encoding: 'utf8', maxBuffer: 1 << 28 })
  if (done.status !== 0) {
    process.stderr.write((done.stdout ?? '').replace(/^TSFILE:.*\n/gm, '') + (done.stderr ?? ''))  // tsc's list of written files hides its errors
    const short = [command, ...args].map((a) => a.replace(root, '.')).join(' ')
    stop(where, `\`${short}\` to succeed`, done.error?.message ?? (done.signal ? `signal ${done.signal}` : `exit status ${done.status}`), 'mending the first error printed above')
  }
  return done.stdout ?? ''
}

export const jobs = () => process.env.THREEFOLD_JOBS ?? String(availableParallelism())

/** The generator cmake-js takes as well. */
const generator = () => (version('ninja') ? 'Ninja' : 'Unix Makefiles')

/** Removes a CMake folder that CMake would refuse: made in another place (a moved checkout) or with another generator. */
export function dropForeignCache(folder) {
  const cache = join(root, folder, 'CMakeCache.txt')
  if (!existsSync(cache)) return
  const text = readFileSync(cache, 'utf8')
  const entry = (name) => new RegExp(`^${name}:INTERNAL=(.*)$`, 'm').exec(text)?.[1]
  if (entry('CMAKE_HOME_DIRECTORY') === root && entry('CMAKE_GENERATOR') === generator()) return
  rmSync(join(root, folder), { recursive: true, force: true })
}

/** Configures and builds one CMake target that needs no Node; returns the path of the binary. */
export async function buildTarget(target, folder, definitions = []) {
  requireTools()
  return locked(folder, () => {
    dropForeignCache(folder)
    run('cmake', ['-S', root, '-B', folder, '-G', generator(), '-DTHREEFOLD_ADDON=OFF', ...definitions])
    run('cmake', ['--build', folder, '--target', target, '--parallel', jobs()])
    return join(root, folder, target)
  })
}

/** The path of the nvcc to build CUDA code with, nothing where there is none. CMakeLists.txt looks in the same places. */
export function nvcc() {
  const folders = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda'].filter(Boolean).map((home) => join(home, 'bin'))
  const places = [...(process.env.PATH ?? '').split(delimiter), ...folders].map((folder) => join(folder, 'nvcc'))
  return [process.env.CUDACXX, ...places].filter(Boolean).find(existsSync)
}

/** Whether this machine has an NVIDIA driver. */
export const hasDriver = () => existsSync('/proc/driver/nvidia/version') || spawnSync('nvidia-smi', ['-L']).status === 0

/** Builds the module of a device unless nothing changed; the seconds it took, 0 for none. */
export async function buildBackend(kind) {
  const module = backendPath(kind)
  const stampPath = module.replace(/\.so$/, '.json')
  const archs = process.env.THREEFOLD_CUDA_ARCHS ?? '80;90a'
  const strict = process.env.THREEFOLD_CUDA_STRICT === 'on'  // for CI: another nvcc may allot registers otherwise
  const compilerOfKind = kind === 'cuda' ? (nvcc() ?? stop('build', 'nvcc', 'none in CUDACXX, the PATH, CUDA_HOME or /usr/local/cuda', 'installing the CUDA toolkit (12 or newer)')) : 'c++'
  return locked(`backend-${kind}`, async () => {
    const hash = contentHash(['native', 'CMakeLists.txt'], `${kind} ${kind === 'cuda' ? `${archs}${strict}` : ''} ${compilerOfKind} ${compiler()}`)
    const stamp = existsSync(module) && existsSync(stampPath) ? JSON.parse(readFileSync(stampPath, 'utf8')) : {}
    if (stamp.hash === hash) return { seconds: 0 }
    const started = Date.now()
    const definitions = kind === 'cuda' ? ['-DTHREEFOLD_CUDA=ON', `-DNVCC=${compilerOfKind}`, `-DTHREEFOLD_CUDA_ARCHS=${archs.replace(/,/g, ';')}`, `-DTHREEFOLD_CUDA_STRICT=${strict ? 'ON' : 'OFF'}`] : []
    const built = await buildTarget(`threefold_${kind}`, kind === 'emulated' ? 'build-tests' : 'build-cuda', definitions)
    mkdirSync(dirname(module), { recursive: true })
    copyFileSync(`${built}.so`, `${module}.new`)
    renameSync(`${module}.new`, module)  // a running process keeps its old file
    const seconds = (Date.now() - started) / 1000
    writeFileSync(stampPath, JSON.stringify({ hash, compiler: compilerOfKind, ...(kind === 'cuda' && { archs }), seconds }))
    return { seconds }
  })
}

export function filesUnder(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? filesUnder(join(folder, e.name)) : [join(folder, e.name)]))
    .sort()
}

/** A hash of the contents of files and folders, but for those that `skip` matches, and of `extra`. */
export function contentHash(paths, extra = '', skip = /^$/) {
  const hash = createHash('sha256').update(extra)
  for (const path of paths.map((p) => join(root, p))) {
    const files = existsSync(path) && statSync(path).isDirectory() ? filesUnder(path) : [path]
    for (const file of files) if (existsSync(file) && !skip.test(file.slice(root.length))) hash.update(`\0${file.slice(root.length)}\0`).update(readFileSync(file))
  }
  return hash.digest('hex')
}

/** True while the process that wrote a lock file may still run. */
function held(path) {
  try {
    const pid = Number(readFileSync(path, 'utf8'))
    if (!pid) return Date.now() - statSync(path).mtimeMs < 5000  // its owner has not written its number yet
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Runs `body` while no other process does the same `work` in this checkout. A lock of a dead process is taken over. */
export async function locked(work, body) {
  const folder = join(root, 'build-lock')  // not in build/, which `node-gyp rebuild` removes
  mkdirSync(folder, { recursive: true })
  const path = join(folder, work)
  for (let waited = false; ; waited = true) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
      if (!held(path)) {
        rmSync(path, { force: true })
        continue
      }
      if (!waited) console.error(`threefold: waiting for another process that builds ${work} in this checkout`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
  const release = () => rmSync(path, { force: true })
  process.once('exit', release)
  try {
    return await body()
  } finally {
    release()
    process.off('exit', release)
  }
}
