// Builds the addon with cmake-js into build/Release/threefold.node. A rerun with nothing changed does nothing.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { contentHash, jobs, locked, root, run, toolchain } from './native.mjs'

const output = join(root, 'build', 'Release', 'threefold.node')
const stampFile = join(root, 'build', 'Release', 'threefold.json')

await locked(() => {
  const hash = contentHash(['native', 'CMakeLists.txt', 'scripts/install.mjs'], `${process.platform} ${process.arch} ${process.env.CXX ?? ''}`)
  if (existsSync(output) && existsSync(stampFile) && JSON.parse(readFileSync(stampFile, 'utf8')).hash === hash) {
    console.log('threefold: addon is up to date')
    return
  }
  toolchain()
  const started = Date.now()
  const cmakeJs = join(dirname(createRequire(import.meta.url).resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  const folder = ['--out', 'build-cmake', '--config', 'Release']
  run(process.execPath, [cmakeJs, 'configure', ...folder])
  run(process.execPath, [cmakeJs, 'build', ...folder, '--target', 'threefold', '--parallel', jobs()])
  mkdirSync(dirname(output), { recursive: true })
  const built = [join('build-cmake', 'threefold.node'), join('build-cmake', 'Release', 'threefold.node')].map((p) => join(root, p)).find(existsSync)
  copyFileSync(built, `${output}.new`)  // a running process keeps its old file
  renameSync(`${output}.new`, output)
  const seconds = Math.round((Date.now() - started) / 1000)
  writeFileSync(stampFile, JSON.stringify({ hash, seconds }))
  console.log(`threefold: addon built in ${seconds} s`)
})
