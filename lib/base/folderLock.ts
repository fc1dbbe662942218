// One process at a time in a folder. A lock is a file with who holds it; that of a process that has ended counts for nothing.
import { open, readFile, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'

import { fail } from './errors.js'
import { errorCode, failOnFile } from './files.js'

export const lockName = '.running'

interface Holder {
  host: string
  pid: number
  /** When the process began, in the system's own units: process numbers come again. Null where the system does not say. */
  began: string | null
}

/** Field 22 of /proc/PID/stat (proc(5)), counted from behind the name, which may hold spaces. */
async function beginning(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

async function isRunning({ host, pid, began }: Holder): Promise<boolean> {
  if (host !== hostname()) return false  // a container's name goes with it: another name is most often one that has ended
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (errorCode(error) !== 'EPERM') return false
  }
  return began === (await beginning(pid))
}

/** Who holds it; null where nobody does or the file is torn. */
async function holder(file: string): Promise<Holder | null> {
  try {
    const { host, pid, began } = JSON.parse(await readFile(file, 'utf8')) as Partial<Holder>
    return typeof host === 'string' && typeof pid === 'number' ? { host, pid, began: began ?? null } : null
  } catch {
    return null
  }
}

/**
 * Holds a folder until it is released. Error: a process that still runs holds it; `where` is the flag that named the folder.
 */
export async function lockFolder(folder: string, where: string): Promise<{ release(): Promise<void> }> {
  const file = join(folder, lockName)
  const own = JSON.stringify({ host: hostname(), pid: process.pid, began: await beginning(process.pid) } satisfies Holder)
  for (let tries = 0; ; tries++) {
    try {
      const handle = await open(file, 'wx')
      await handle.writeFile(own).finally(() => handle.close())
      return { release: () => rm(file, { force: true }) }
    } catch (error) {
      if (errorCode(error) !== 'EEXIST' || tries > 4) failOnFile(error, `to write ${file}`)
    }
    const other = await holder(file)
    if (!other && tries < 2) {
      await setTimeout(50)  // it may be being written
      continue
    }
    if (other && (await isRunning(other))) fail(where, 'a folder that no other run is in', `${folder}, where process ${other.pid} is at work`, 'another --output-dir, or waiting until that run has ended')
    await rm(file, { force: true })
  }
}
