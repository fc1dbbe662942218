// What users and scripts rely on: the public exports, the commands and all their flags. A change here is a change for them.
import { readFile } from 'node:fs/promises'

import test from 'ava'
import { Option } from 'commander'

import { commands, laterCommands } from '../../../lib/cli/commands.js'
import { flagsOf, toFlag } from '../../../lib/cli/flags.js'
import * as library from '../../../lib/index.js'

test('exports, commands and flags are those of surface.json', async (t) => {
  const source = await readFile('lib/index.ts', 'utf8')
  const names = [...source.matchAll(/export (type )?\{([^}]*)\}/g)].flatMap(([, type, list]) => list!.split(',').map((name) => (type ? 'type ' : '') + name.trim()))
  t.deepEqual(
    Object.keys(library).sort(),
    names.filter((name) => !name.startsWith('type ')).sort(),
  )
  const flags = Object.fromEntries(commands.map((c) => [c.name, Object.entries(flagsOf(c)).map(([key, o]) => toFlag(Option, key, o).flags)]))
  const surface = { exports: names.sort(), laterCommands, flags }
  t.deepEqual(JSON.parse(JSON.stringify(surface)), JSON.parse(await readFile('test/lib/cli/surface.json', 'utf8')))
})
