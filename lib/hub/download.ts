/**
 * One file of a repository into the cache. What has arrived is kept under <etag>.incomplete when a download ends early, and
 * the next one goes on from there; a file gets its place among the blobs only when its checksum is right.
 *
 * Two processes may want the same file: each writes a file of its own, takes over an abandoned part by renaming it (which
 * only one can do), and both end with the same content in the same place.
 */
import type { Hash } from 'node:crypto'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { ThreefoldError, fail } from '../base/errors.js'
import { failOnFile, makeFolder, pathExists } from '../base/files.js'
import type { RepoCache } from './cache.js'
import type { Client } from './requests.js'
import { Passing, Patience, get, persist, repoPath, wording } from './requests.js'

export interface RemoteFile {
  readonly name: string
  readonly size: number
  /** sha256 of the content where it is in large file storage, else git's hash of it: what its blob is called. */
  readonly etag: string
}

/** Nobody on another machine has written to a part for so long: it is abandoned. */
const abandonedMs = 60 * 60 * 1000

const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8)

/** The hash that the etag is one of: sha256 of a large file, or git's sha1 of a blob. */
function hashOf({ etag, size }: RemoteFile): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** True where whoever wrote the part goes on no more. */
async function isAbandoned(file: string): Promise<boolean> {
  const owner = /\.([0-9a-f]{8})-(\d+)-[0-9a-f]+\.incomplete$/.exec(file)
  if (owner === null) return true // <etag>.incomplete, left on purpose
  if (owner[1] === host) return Number(owner[2]) !== process.pid && !isAlive(Number(owner[2]))
  return stat(file).then(({ mtimeMs }) => Date.now() - mtimeMs > abandonedMs, () => false)
}

/** A part of this process, begun with what an earlier download left. */
async function takePart(blob: string): Promise<string> {
  const mine = `${blob}.${host}-${process.pid}-${randomBytes(4).toString('hex')}.incomplete`
  const prefix = `${path.basename(blob)}.`
  for (const name of await readdir(path.dirname(blob))) {
    if (!name.startsWith(prefix) || !name.endsWith('.incomplete')) continue
    const left = path.join(path.dirname(blob), name)
    if (!(await isAbandoned(left))) continue
    const taken = await rename(left, mine).then(() => true, () => false)
    if (taken) break
  }
  return mine
}

async function hashFile(file: string, hash: Hash): Promise<void> {
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) hash.update(chunk)
}

class Download {
  #done = 0
  #hash: Hash
  /** Bytes there were when the last try began. */
  #before = 0

  constructor(
    readonly client: Client,
    readonly cache: RepoCache,
    readonly commit: string,
    readonly file: RemoteFile,
    readonly part: string,
    readonly handle: FileHandle,
    readonly onBytes: (done: number) => void,
  ) {
    this.#hash = hashOf(file)
  }

  async run(): Promise<void> {
    await this.#resume()
    await persist(this.client, () => this.#attempt(), () => this.#done > this.#before)
    if (this.#hash.digest('hex') === this.file.etag) return
    await this.#restart()
    fail('hub', `${this.file.name} of ${this.cache.repo.id} with the checksum ${this.file.etag}`, 'another one', 'to download it again; if it stays, something between here and the hub changes files')
  }

  async #resume(): Promise<void> {
    const { size } = await this.handle.stat()
    if (size > this.file.size) return this.#restart()
    await hashFile(this.part, this.#hash)
    this.#done = size
    this.onBytes(size)
  }

  async #restart(): Promise<void> {
    await this.handle.truncate(0)
    this.#hash = hashOf(this.file)
    this.#done = this.#before = 0
    this.onBytes(0)
  }

  async #attempt(): Promise<void> {
    const { file, client, cache } = this
    this.#before = this.#done
    if (this.#done === file.size) return
    using patience = new Patience(client)
    const address = `${repoPath(cache.repo)}/resolve/${this.commit}/${file.name.split('/').map(encodeURIComponent).join('/')}`
    const { first, response } = await get(client, cache.repo, address, patience, this.#done > 0 ? { range: `bytes=${this.#done}-` } : {})
    this.#checkHead(first)
    if (this.#done > 0 && !this.#goesOn(response)) {
      // the whole file comes, or the part is none of it
      await this.#restart()
      if (response.status === 416) throw new Passing('416: the part that is here is no part of the file')
    }
    try {
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        patience.alive()
        await this.#take(chunk)
      }
    } catch (error) {
      if (error instanceof ThreefoldError) throw error
      if (error instanceof Error && 'code' in error && /^E(?:NOSPC|DQUOT|IO|FBIG|ROFS)$/.test(String(error.code))) throw error
      throw new Passing(wording(error), 0, { cause: error })
    }
    if (this.#done < file.size) throw new Passing(`the connection ended after ${this.#done} of ${file.size} bytes of ${file.name}`)
  }

  #goesOn(response: Response): boolean {
    return response.status === 206 && response.headers.get('content-range')?.startsWith(`bytes ${this.#done}-`) === true
  }

  /** The hub's own answer names the content; a mirror may leave that out. */
  #checkHead(first: Headers): void {
    const { file, cache, commit } = this
    const etag = (first.get('x-linked-etag') ?? first.get('etag') ?? '').replace(/^W\//, '').replaceAll('"', '')
    const at = first.get('x-repo-commit')
    if ((etag === '' || etag === file.etag) && (at === null || at === commit)) return
    fail('hub', `${file.name} of ${cache.repo.id} as it is at ${commit}: ${file.etag}`, `${etag || 'no etag'} at ${at ?? 'no commit'}`, 'again: it may have been changed at this moment')
  }

  async #take(chunk: Uint8Array): Promise<void> {
    const { file } = this
    if (this.#done + chunk.length > file.size) {
      await this.#restart()
      fail('hub', `${file.size} bytes of ${file.name}`, 'more', 'to check HF_ENDPOINT and whatever stands between here and the hub')
    }
    for (let written = 0; written < chunk.length; ) {
      const { bytesWritten } = await this.handle.write(chunk, written, chunk.length - written, this.#done + written)
      written += bytesWritten
    }
    this.#hash.update(chunk)
    this.#done += chunk.length
    this.onBytes(this.#done)
  }
}

/** Makes sure the file is among the blobs. `onBytes` is told how much of it is there. Errors: see requests.ts; a wrong checksum. */
export async function download(client: Client, cache: RepoCache, commit: string, file: RemoteFile, onBytes: (done: number) => void): Promise<void> {
  const blob = cache.blob(file.etag)
  if (await pathExists(blob)) return onBytes(file.size)
  let part: string | null = null
  try {
    await makeFolder(path.dirname(blob))
    part = await takePart(blob)
    const handle = await open(part, 'a+').then(async (made) => {
      await made.close() // exists now, whether it was taken over or not; appending is not what is wanted
      return open(part!, 'r+')
    })
    try {
      await new Download(client, cache, commit, file, part, handle, onBytes).run()
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(part, blob)
  } catch (error) {
    if (part !== null) await leavePart(part, `${blob}.incomplete`)
    failOnFile(error, `to write ${blob}`)
  }
}

/** Keeps what has arrived for the next download; an empty part is no use. */
async function leavePart(part: string, place: string): Promise<void> {
  const size = await stat(part).then((found) => found.size, () => 0)
  await (size > 0 ? rename(part, place) : rm(part, { force: true })).catch(() => undefined)
}
