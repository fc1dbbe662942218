/** SHA-256 of every file of a model folder, so that a damaged copy is found by name. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../base/errors.js'
import { failOnFile, pathExists, readJson, writeJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import { shown } from './tensorFiles.js'

export const checksumsName = 'checksums.json'

/** Writes checksums.json ({file: sha256 in hex}, folders inside with "/") over the folder's files. Returns their names. */
export async function writeChecksums(folder: string): Promise<string[]> {
  const sums: Record<string, string> = {}
  for (const name of await filesOf(folder)) {
    if (name !== checksumsName) sums[name] = await sha256(path.join(folder, name))
  }
  await writeJson(path.join(folder, checksumsName), sums)
  return Object.keys(sums)
}

/**
 * Compares every file that checksums.json names; files beside them are not its business. Errors name the first file
 * that is missing or altered, and what is wrong with checksums.json itself. Returns the names of the files.
 */
export async function verifyChecksums(folder: string): Promise<string[]> {
  const sums = await readChecksums(folder)
  const cure = 'to copy or download the folder again'
  for (const [name, expected] of sums) {
    const file = path.join(folder, name)
    if (!(await pathExists(file))) fail('checksums', `${file}, which ${checksumsName} lists`, 'no such file', cure)
    const received = await sha256(file)
    if (received !== expected) fail('checksums', `sha256 ${expected} of ${file}`, received, `${cure}; the file was altered`)
  }
  return [...sums.keys()]
}

/** {file: sha256} of a folder's checksums.json. */
export async function readChecksums(folder: string): Promise<Map<string, string>> {
  const list = path.join(folder, checksumsName)
  const cure = 'to copy or download the file again'
  const json = await readJson(list)
  if (!isJsonObject(json)) fail('checksums', `a JSON object in ${list}`, kindOf(json), cure)
  const sums = new Map<string, string>()
  for (const [name, sum] of Object.entries(json)) {
    // A path out of the folder is never followed.
    const inside = name.split('/').every((part) => part !== '' && part !== '.' && part !== '..') && !/[\\:\0]/.test(name)
    if (!inside) fail('checksums', `files within the folder in ${list}`, shown(name), cure)
    if (typeof sum !== 'string' || !/^[0-9a-f]{64}$/.test(sum)) {
      fail('checksums', `64 hexadecimal digits for ${shown(name)} in ${list}`, typeof sum === 'string' ? shown(sum) : kindOf(sum), cure)
    }
    sums.set(name, sum)
  }
  return sums
}

/** Names of all files below a folder, sorted, so that the list does not depend on the file system. */
async function filesOf(folder: string, inside = ''): Promise<string[]> {
  const names: string[] = []
  try {
    for (const entry of await readdir(path.join(folder, inside))) {
      const name = inside === '' ? entry : `${inside}/${entry}`
      // A hub cache holds links: what they lead to counts.
      const found = await stat(path.join(folder, name))
      if (found.isDirectory()) names.push(...(await filesOf(folder, name)))
      else if (found.isFile()) names.push(name)
    }
  } catch (error) {
    failOnFile(error, `to read the folder ${path.join(folder, inside)}`)
  }
  return names.sort()
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer)
  } catch (error) {
    failOnFile(error, `to read ${file}`)
  }
  return hash.digest('hex')
}
