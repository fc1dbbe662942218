// Loads the addon, and explains itself when it cannot. The only file that touches a .node binary.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { fail } from '../base/errors.js'

/** The package's folder: two up from lib/binding and from dist/binding alike. */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

const CURES = {
  missing: '`npm rebuild threefold` in your project (npm 12 skips install scripts of dependencies), or `node scripts/install.mjs` in a checkout',
  broken: '`node scripts/install.mjs` to build it again on this machine',
}

/** The addon's exports; lib/binding/native.ts gives them types. */
export function loadAddon(): unknown {
  const path = join(packageRoot, 'build', 'Release', 'threefold.node')
  if (!existsSync(path)) fail('native addon', `a built addon at ${path}`, 'no such file', CURES.missing)
  try {
    return createRequire(import.meta.url)(path)
  } catch (error) {
    return fail('native addon', `${path} to load in Node ${process.versions.node}`, (error as Error).message.split('\n')[0]!, CURES.broken)
  }
}
