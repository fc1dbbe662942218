import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { verifyChecksums, writeChecksums } from '../../../lib/checkpoint/checksums.js'
import { failsWith, temporaryFolder } from '../data/support.js'

// Published: FIPS 180-2 appendix B, "abc", and one million times "a"; the empty message.
const abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
const million = 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'
const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

async function model(t: ExecutionContext): Promise<string> {
  const folder = await temporaryFolder(t)
  await writeFile(path.join(folder, 'config.json'), 'abc')
  await writeFile(path.join(folder, 'model.safetensors'), 'a'.repeat(1_000_000))
  await mkdir(path.join(folder, 'inner'))
  await writeFile(path.join(folder, 'inner', 'empty'), '')
  return folder
}

test('the sums are the published ones, of all files, and hold', async (t) => {
  const folder = await model(t)
  await symlink('config.json', path.join(folder, 'link.json'))
  const names = ['config.json', 'inner/empty', 'link.json', 'model.safetensors']
  t.deepEqual(await writeChecksums(folder), names)
  const sums = JSON.parse(await readFile(path.join(folder, 'checksums.json'), 'utf8')) as unknown
  t.deepEqual(sums, { 'config.json': abc, 'inner/empty': empty, 'link.json': abc, 'model.safetensors': million })
  t.deepEqual(await verifyChecksums(folder), names)
  await writeFile(path.join(folder, 'notes.txt'), 'a file beside them')
  t.deepEqual(await verifyChecksums(folder), names)
  t.deepEqual(await writeChecksums(folder), [...names, 'notes.txt'], 'the list itself is not in the list')
})

test('an altered or missing file is refused by name', async (t) => {
  const folder = await model(t)
  await writeChecksums(folder)
  const weights = path.join(folder, 'model.safetensors')
  await writeFile(weights, `${'a'.repeat(999_999)}b`)
  await failsWith(t, () => verifyChecksums(folder), '[checksums]', `sha256 ${million} of ${weights}`, 'altered')
  await rm(weights)
  await failsWith(t, () => verifyChecksums(folder), weights, 'which checksums.json lists', 'no such file')
})

test('a list that is missing or wrong is refused', async (t) => {
  const folder = await model(t)
  const list = path.join(folder, 'checksums.json')
  await failsWith(t, () => verifyChecksums(folder), list, 'ENOENT')
  await failsWith(t, () => writeChecksums(path.join(folder, 'none')), 'none', 'ENOENT')
  const wrong: readonly (readonly [unknown, ...string[]])[] = [
    [[abc], 'a JSON object', 'an array'],
    [{ '../config.json': abc }, 'files within the folder', '"../config.json"'],
    [{ '/etc/passwd': abc }, 'files within the folder'],
    [{ 'a\\..\\b': abc }, 'files within the folder'],
    [{ 'config.json': abc.slice(1) }, '64 hexadecimal digits for "config.json"'],
    [{ 'config.json': 3 }, '64 hexadecimal digits', 'a number'],
  ]
  for (const [value, ...texts] of wrong) {
    await writeFile(list, JSON.stringify(value))
    await failsWith(t, () => verifyChecksums(folder), list, ...texts)
  }
})
