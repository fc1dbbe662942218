/**
 * The cache on disk in the layout of Python's huggingface_hub, so that both use one:
 *   models--owner--name/refs/<revision>              the commit it stands for
 *   models--owner--name/blobs/<etag>                 the files by their content
 *   models--owner--name/snapshots/<commit>/<path>    links to them
 */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readFile, readdir, rename, rm, stat, symlink } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../base/errors.js'
import { errorCode, failOnFile, makeFolder, pathExists, writeFileAtomic } from '../base/files.js'
import type { HubSettings } from './environment.js'
import type { Repo } from './requests.js'

const commitForm = /^[0-9a-f]{40}$/

/** Names come from the user and from the server; none may lead out of the cache. */
export function checkedPath(name: string, what: string): string {
  const parts = name.split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..') || /[\\\u0000-\u001f]/.test(name) || path.isAbsolute(name)) {
    fail('hub', `${what} of plain names`, JSON.stringify(name), 'another repository or revision')
  }
  return name
}

export function checkedCommit(commit: unknown, id: string): string {
  if (typeof commit === 'string' && commitForm.test(commit)) return commit
  fail('hub', `the commit of ${id}: 40 hexadecimal digits`, String(commit), 'to check HF_ENDPOINT: it does not answer as the hub does')
}

export class RepoCache {
  readonly folder: string

  constructor(
    settings: HubSettings,
    readonly repo: Repo,
  ) {
    this.folder = path.join(settings.cache, `${repo.kind}s--${repo.id.replaceAll('/', '--')}`)
  }

  blob(etag: string): string {
    return path.join(this.folder, 'blobs', etag)
  }

  snapshot(commit: string): string {
    return path.join(this.folder, 'snapshots', commit)
  }

  /** The snapshot that the revision stood for when it was last downloaded; null where there is none. */
  async known(): Promise<string | null> {
    const { revision } = this.repo
    const ref = path.join(this.folder, 'refs', checkedPath(revision, 'a revision'))
    const commit = commitForm.test(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim()
    if (!commitForm.test(commit)) return null
    const snapshot = this.snapshot(commit)
    return (await pathExists(snapshot)) ? snapshot : null
  }

  /** Says what the revision stands for, once all its files are there. */
  async remember(commit: string): Promise<void> {
    const { revision } = this.repo
    if (commitForm.test(revision)) return
    const ref = path.join(this.folder, 'refs', checkedPath(revision, 'a revision'))
    await makeFolder(path.dirname(ref))
    await writeFileAtomic(ref, commit)
  }

  /** Puts a file that is among the blobs into a snapshot: as a link, or as a copy on a disk that has none. */
  async place(commit: string, name: string, etag: string): Promise<void> {
    const target = path.join(this.snapshot(commit), checkedPath(name, 'a file name'))
    if (await pathExists(target)) return // a commit never changes; a broken link counts as absent
    const temporary = path.join(path.dirname(target), `.${path.basename(target)}.${process.pid}-${randomBytes(4).toString('hex')}`)
    try {
      await mkdir(path.dirname(target), { recursive: true })
      await symlink(path.relative(path.dirname(target), this.blob(etag)), temporary).catch(async (error: unknown) => {
        if (!['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL'].includes(errorCode(error) ?? '')) throw error
        await copyFile(this.blob(etag), temporary)
      })
      await rename(temporary, target)
    } catch (error) {
      await rm(temporary, { force: true })
      failOnFile(error, `to write ${target}`)
    }
  }

  /** Names of the files in a snapshot whose content is there, sub-folders included. */
  async filesOf(snapshot: string): Promise<string[]> {
    const names = (await readdir(snapshot, { recursive: true })).map((name) => name.split(path.sep).join('/'))
    const files: string[] = []
    for (const name of names.sort()) {
      const isFile = await stat(path.join(snapshot, name)).then((found) => found.isFile(), () => false)
      if (isFile) files.push(name)
    }
    return files
  }
}
