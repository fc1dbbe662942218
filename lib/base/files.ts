/**
 * Files that are either whole or not there: written beside their place, synced, then renamed; and JSON read with an
 * error that names file, line and column.
 */
import { randomBytes } from 'node:crypto'
import { open, mkdir, readFile, readdir, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { fail } from './errors.js'
import { excerpt, findJsonError } from './json.js'

const where = 'files'

/** A hidden name in the same folder, so that the final rename never crosses a file system. */
function besideName(target: string, purpose: string): string {
  const unique = `${process.pid}-${randomBytes(4).toString('hex')}`
  return path.join(path.dirname(target), `.${path.basename(target)}.${purpose}-${unique}`)
}

/** The code of a file system error ("ENOENT"), or null for anything else. */
export function errorCode(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null
  return typeof code === 'string' ? code : null
}

const cures: Readonly<Record<string, string>> = {
  ENOENT: 'a path that exists',
  ENOTDIR: 'a path whose parents are all folders',
  EEXIST: 'another name: a file stands where a folder is needed',
  EISDIR: 'the path of a file, not of a folder',
  EACCES: 'a place you have the rights for',
  EPERM: 'a place you have the rights for',
  EROFS: 'a place that is not mounted read-only',
  ENOSPC: 'to free space on the disk',
  EDQUOT: 'to free space within the disk quota',
}

/** Rethrows a file system error in the project's shape; any other error goes through as it is. */
export function failOnFile(error: unknown, expected: string): never {
  const code = errorCode(error)
  if (code === null || !/^E[A-Z0-9]+$/.test(code)) throw error
  fail(where, expected, (error as Error).message, cures[code] ?? 'another path, or check the disk')
}

async function syncPath(target: string): Promise<void> {
  const handle = await open(target, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Syncs every file and folder below a folder, then the folder itself. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const child = path.join(folder, entry.name)
    if (entry.isDirectory()) await syncTree(child)
    else if (entry.isFile()) await syncPath(child)
  }
  await syncPath(folder)
}

/**
 * Writes a file through a writer function: the file under `target` is the old one until the new one is complete and
 * on the disk. A writer that throws leaves the old file and no leftovers.
 */
export async function atomicFile(target: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = besideName(target, 'new')
  try {
    await write(temporary)
    await syncPath(temporary)
    await rename(temporary, target)
    await syncPath(path.dirname(target))
  } catch (error) {
    await rm(temporary, { force: true })
    failOnFile(error, `to write ${target}`)
  }
}

/** Writes text or bytes as a whole file or not at all. */
export async function writeFileAtomic(target: string, content: string | Uint8Array): Promise<void> {
  await atomicFile(target, async (temporary) => {
    const handle = await open(temporary, 'wx')
    try {
      await handle.writeFile(content)
    } finally {
      await handle.close()
    }
  })
}

/** Writes a value as indented JSON with a final line end, as a whole file or not at all. */
export async function writeJson(target: string, value: unknown): Promise<void> {
  await writeFileAtomic(target, `${JSON.stringify(value, null, 2)}\n`)
}

/**
 * Makes a folder and its parents; one that is there is fine. Node's own `recursive` never returns where a parent takes
 * no folders and says "no such file" (/proc).
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder)
  } catch (error) {
    const code = errorCode(error)
    if (code === 'EEXIST' && (await isFolder(folder))) return
    if (code !== 'ENOENT') throw error
    const parent = path.dirname(path.resolve(folder))
    if (await isFolder(parent)) throw error
    await makeFolder(parent)
    await mkdir(folder)
  }
}

async function isFolder(target: string): Promise<boolean> {
  return stat(target).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/**
 * Fills a folder under a temporary name beside its place, syncs it and swaps it in. A folder that was there is moved
 * aside only when the new one is complete, put back when the swap fails, and removed at the very end. When `fill`
 * throws, nothing at `target` has changed.
 */
export async function atomicFolder(target: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const folder = path.resolve(target)
  const temporary = besideName(folder, 'new')
  try {
    await makeFolder(path.dirname(folder))
    await mkdir(temporary)
    await fill(temporary)
    await syncTree(temporary)
    await swapFolder(temporary, folder)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    failOnFile(error, `to write the folder ${target}`)
  }
}

/** What was moved aside goes back, or away where another process has put a whole folder in its place meanwhile. */
async function putBack(replaced: string, folder: string): Promise<void> {
  try {
    await rename(replaced, folder)
  } catch (error) {
    if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error
    await rm(replaced, { recursive: true, force: true })
  }
}

async function swapFolder(temporary: string, folder: string): Promise<void> {
  const replaced = besideName(folder, 'old')
  const existed = await rename(folder, replaced).then(
    () => true,
    (error: unknown) => {
      if (errorCode(error) === 'ENOENT') return false
      throw error
    },
  )
  try {
    await rename(temporary, folder)
  } catch (error) {
    if (existed) await putBack(replaced, folder)
    throw error
  }
  await syncPath(path.dirname(folder))
  if (existed) await rm(replaced, { recursive: true, force: true })
}

/** Removes a folder that is whole until it is gone: it loses its name first. */
export async function removeFolder(folder: string): Promise<void> {
  const aside = besideName(path.resolve(folder), 'old')
  await rename(folder, aside)
  await rm(aside, { recursive: true, force: true })
}

/** Removes what a killed process left in a folder under the temporary names of this file. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (/^\..+\.(new|old)-\d+-[0-9a-f]{8}$/.test(name)) await rm(path.join(folder, name), { recursive: true, force: true })
}

/**
 * Makes the folder and proves by a small file that it can be written, so that a run fails in its first second and
 * not at its end.
 */
export async function ensureWritable(folder: string): Promise<void> {
  const probe = path.join(folder, `.writable-${process.pid}-${randomBytes(4).toString('hex')}`)
  try {
    await makeFolder(folder)
    const handle = await open(probe, 'wx')
    await handle.close()
  } catch (error) {
    failOnFile(error, `a folder that can be written at ${folder}`)
  } finally {
    // Also when closing failed; where the parent is not a folder there is nothing to remove.
    await rm(probe, { force: true }).catch(() => undefined)
  }
}

/** True when the path is there, of any kind. */
export async function pathExists(target: string): Promise<boolean> {
  return stat(target).then(
    () => true,
    () => false,
  )
}

/** Parses JSON text; a syntax error names the file, line and column and what should stand there. */
export function parseJson(text: string, file: string, firstLine = 1): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const place = findJsonError(text)
    if (place === null) throw error
    fail(
      where,
      `${place.expected} in ${file} line ${place.line + firstLine - 1} column ${place.column}`,
      excerpt(text, place.offset),
      'to correct the JSON there, or write the file again',
    )
  }
}

/** Reads a JSON file (a byte order mark is allowed). Errors: not there, not readable, not JSON, each naming the file. */
export async function readJson(file: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    failOnFile(error, `to read the JSON file ${file}`)
  }
  return parseJson(text.startsWith('\ufeff') ? text.slice(1) : text, file)
}

/** Like readJson, but null where the file does not exist. */
export async function readJsonIfThere(file: string): Promise<unknown> {
  return (await pathExists(file)) ? readJson(file) : null
}
