// Sizes of OPT as the names of models.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { chdir, cwd } from 'node:process'

import test from 'ava'

import { modelOfSize } from '../../../lib/stages/optSizes.js'
import { temporaryFolder } from '../data/support.js'

test('a size is its repository, unless a folder has that name; other names stay', async (t) => {
  const folder = await temporaryFolder(t)
  const before = cwd()
  t.teardown(() => chdir(before))
  chdir(folder)
  for (const size of ['125m', '350m', '1.3b', '6.7b', '66b']) t.is(await modelOfSize(size), `facebook/opt-${size}`)
  for (const name of ['facebook/opt-1.3b', '1.3B', '7b', 'runs/1.3b', '']) t.is(await modelOfSize(name), name)
  await mkdir(join(folder, '1.3b'))
  t.is(await modelOfSize('1.3b'), '1.3b')
})
