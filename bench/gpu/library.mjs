// The library, as a checkout has compiled it (dist/) or as the bundle carries it (lib/), and the house's shape of an error.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** Prints one error and ends the script. */
export function stop(where, expected, received, cure) {
  console.error(`[${where}] expected ${expected}, received ${received}. Try ${cure}.`)
  process.exit(1)
}

const compiled = ['lib', 'dist'].map((folder) => join(root, folder)).find((folder) => existsSync(join(folder, 'index.js')))

/** A module of the library: library('tensor/device.js'). */
export async function library(path) {
  if (!compiled) stop('gpu-check', `the compiled library in ${root}`, 'neither lib/index.js nor dist/index.js', '`npm run build`')
  return import(pathToFileURL(join(compiled, path)).href)
}

/** Flags `--name value` by name, and `--name` alone as true. Errors: a word that is no known flag. */
export function flags(where, known) {
  const given = {}
  const words = process.argv.slice(2)
  for (let i = 0; i < words.length; i++) {
    const name = words[i].replace(/^--/, '')
    if (!words[i].startsWith('--') || !(name in known)) stop(where, Object.keys(known).map((k) => `--${k}`).join(', '), words[i], 'one of these')
    if (typeof known[name] === 'boolean') given[name] = true
    else given[name] = words[++i] ?? stop(where, `a value for --${name}`, 'none', `--${name} ${known[name] || '...'}`)
  }
  return { ...known, ...given }
}
