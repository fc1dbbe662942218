// One run at a time in a folder; what a killed one left does not count.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { lockFolder } from '../../../lib/base/folderLock.js'
import { failsWith, temporaryFolder } from '../data/support.js'

test('a folder is held until it is released', async (t) => {
  const folder = await temporaryFolder(t)
  const lock = await lockFolder(folder, '--output-dir')
  await failsWith(t, () => lockFolder(folder, '--output-dir'), '--output-dir', `process ${process.pid} is at work`)
  await lock.release()
  t.deepEqual(await readdir(folder), [])
  await (await lockFolder(folder, '--output-dir')).release()
})

test('what a process left that has ended, or whose number another one has, is taken over', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, '.running')
  await (await lockFolder(folder, 'x')).release()
  const lock = await lockFolder(folder, 'x')
  const own = JSON.parse(await readFile(file, 'utf8')) as { host: string; pid: number; began: string | null }
  await lock.release()
  const child = spawn(process.execPath, ['-e', ''])
  const ended = child.pid!
  await once(child, 'exit')
  const left = [{ ...own, pid: ended }, { ...own, host: 'elsewhere' }, ...(own.began === null ? [] : [{ ...own, began: `${own.began}0` }])]
  for (const text of [...left.map((holder) => JSON.stringify(holder)), '', '{"host"']) {
    await writeFile(file, text)
    const taken = await lockFolder(folder, 'x')
    t.deepEqual(JSON.parse(await readFile(file, 'utf8')), own, text)
    await taken.release()
  }
  await writeFile(file, JSON.stringify(own))
  await failsWith(t, () => lockFolder(folder, 'x'), 'x', 'is at work')
})
