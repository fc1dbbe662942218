// Loads the addon, and explains itself when it cannot. The only file that touches a .node binary.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { fail } from '../base/errors.js'

/** The package's folder: two up from lib/binding and from dist/binding alike. */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** Threefold's own version. */
export const packageVersion = (): string => (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version

/** The binary's place under the package's folder. */
export const addonPath = (root = packageRoot): string => join(root, 'build', 'Release', 'threefold.node')

/** The module of a kind of device, beside the addon; it need not be there. */
export const backendPath = (kind: 'cuda' | 'emulated', root = packageRoot): string => join(root, 'build', 'Release', `threefold_${kind}.so`)

/**
 * The path of a device's module. The emulated device is built when it is first asked for, the others are not.
 * Errors: no module, with how to get it.
 */
export function findBackend(kind: 'cuda' | 'emulated', root = packageRoot): string {
  const path = backendPath(kind, root)
  if (existsSync(path)) return path
  const script = join(root, 'scripts', 'backend.mjs')
  const command = `node ${script} ${kind}`
  if (kind === 'cuda') fail('device', 'an addon with its CUDA module', 'one without', `\`${command}\` (it needs nvcc), or --device cpu`)
  process.stderr.write('threefold: building the emulated device, once; it takes a minute or two\n')
  const done = spawnSync(process.execPath, [script, kind], { stdio: ['ignore', 'ignore', 'inherit'] })
  if (done.status !== 0 || !existsSync(path)) fail('device', `the emulated device to be built by \`${command}\``, 'the error above', 'mending it, or --device cpu')
  return path
}

/** The Node-API version the addon is built for; every Node of package.json's `engines` has it. */
const NODE_API = 8

const BUILD = '`npm rebuild threefold` in your project, or `node scripts/install.mjs` in a checkout,'

/** What helps, from the loader's own words. */
function cureFor(message: string): string {
  if (/GLIBC|CXXABI|not found \(required by/.test(message))
    return `${BUILD} to build it against this machine's C and C++ libraries, which are older than those it was built with`
  if (/invalid ELF header|wrong ELF class|cannot open shared object|mach-o|incompatible architecture|not a valid Win32/i.test(message))
    return `${BUILD} to build it for this system: the file was made for another or is damaged`
  if (/addons? (is|are|has been) disabled|no-addons/i.test(message)) return 'starting Node without --no-addons'
  return `${BUILD} to build it again on this machine`
}

/**
 * The addon's exports; lib/binding/native.ts gives them types.
 * Throws a ThreefoldError that names the reason: no binary, libraries of this system too old, another system's file, Node too old.
 */
export function loadAddon(root = packageRoot, nodeApi = Number(process.versions.napi)): unknown {
  const path = addonPath(root)
  if (nodeApi < NODE_API) fail('native addon', `Node 20.19 or newer (Node-API ${NODE_API})`, `Node ${process.versions.node} (Node-API ${nodeApi})`, 'a newer Node')
  if (!existsSync(path))
    fail('native addon', `a built addon at ${path}`, 'no such file', `${BUILD} to build it (npm 12, and --ignore-scripts, skip the install scripts of dependencies)`)
  try {
    return createRequire(import.meta.url)(path)
  } catch (error) {
    const message = (error as Error).message
    return fail('native addon', `${path} to load in Node ${process.versions.node}`, message.split('\n')[0]!, cureFor(message))
  }
}
