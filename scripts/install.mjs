// Builds the addon with cmake-js into build/Release/threefold.node. A rerun with nothing changed does nothing.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { addon, addonStamp, buildBackend, compiler, contentHash, dropForeignCache, hasDriver, jobs, locked, nvcc, requireTools, root, run, stop } from './native.mjs'

const folder = 'build-cmake'  // not build/, which `node-gyp rebuild` removes

await locked('addon', () => {
  const ofModules = /kernels[\\/](cuda|emulated)[\\/]/  // built apart
  const hash = contentHash(['native', 'CMakeLists.txt', 'scripts/install.mjs'], `${process.platform} ${process.arch}`, ofModules)
  const madeWith = compiler()
  const stamp = existsSync(addon) && existsSync(addonStamp) ? JSON.parse(readFileSync(addonStamp, 'utf8')) : {}
  // A compiler that has gone away since is no reason to build again.
  if (stamp.hash === hash && (!madeWith || stamp.compiler === madeWith)) {
    console.log('threefold: addon up to date')
    return
  }
  requireTools()
  if (stamp.compiler !== madeWith) rmSync(join(root, folder), { recursive: true, force: true })
  dropForeignCache(folder)
  const started = Date.now()
  // configure + build: `cmake-js compile` would wipe everything and print every error twice.
  const cmakeJs = join(dirname(createRequire(import.meta.url).resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  const options = ['--out', folder, '--config', 'Release']
  run(process.execPath, [cmakeJs, 'configure', ...options])
  run(process.execPath, [cmakeJs, 'build', ...options, '--target', 'threefold', '--parallel', jobs()])
  const built = ['threefold.node', 'Release/threefold.node'].map((name) => join(root, folder, name)).find(existsSync)
  if (!built) stop('build', `threefold.node in ${folder}`, 'none', `removing ${folder} and running again`)
  mkdirSync(dirname(addon), { recursive: true })
  copyFileSync(built, `${addon}.new`)
  renameSync(`${addon}.new`, addon)  // a running process keeps its old file
  const seconds = (Date.now() - started) / 1000
  writeFileSync(addonStamp, JSON.stringify({ hash, compiler: madeWith, unreported: seconds }))
  console.log(`threefold: addon built in ${seconds.toFixed(1)} s`)
})

// CUDA where it can be used, or where it is asked for.
const wanted = process.env.THREEFOLD_CUDA
if (wanted === 'on' || (wanted !== 'off' && nvcc() && hasDriver())) {
  const { seconds } = await buildBackend('cuda')
  console.log(`threefold: CUDA module ${seconds ? `built in ${seconds.toFixed(1)} s` : 'up to date'}`)
}
