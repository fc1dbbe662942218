/**
 * Tokenised rows on disk: a folder named by what they were made of, with the ids, marks and numbers of each part in plain
 * files. A folder is whole or not there, so two processes at once at worst do the work twice.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open, readFile, readdir, rm, stat, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fail } from '../base/errors.js'
import { atomicFolder, failOnFile, makeFolder, pathExists, readJson, writeJson } from '../base/files.js'
import { isJsonObject } from '../base/json.js'
import type { TokenReport } from './records.js'
import type { RowArrays } from './rowBuffer.js'
import { fileSource, memorySource, partNumbers } from './rowList.js'
import type { TokenSource } from './rowList.js'
import type { StageData } from './stageData.js'
import type { MakerOptions } from './tokenize.js'
import type { Tokenizer } from './tokenizer.js'
import { tokenizerFileNames } from './tokenizerFiles.js'
import { parts } from './tokenWorker.js'
import type { Part } from './tokenWorker.js'

/** A change of the format, or of what tokenising gives, takes a new number: older folders are then made again. */
const version = 2
/** Oldest folders go when all of them take more. */
const mostBytes = 20e9
/** Of ids: a part up to this size is read into memory as a whole. */
export const mostInMemory = 256 << 20
/** What a process that was killed left half made goes after this time. */
const abandonedMilliseconds = 24 * 3600e3

/** In the user's cache folder. */
export function defaultTokenStore(env: NodeJS.ProcessEnv = process.env): string {
  return path.join(env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'threefold', 'tokens')
}

/** Beside the rows. */
export interface StoreFacts {
  reports: Record<Part, TokenReport>
  skipped: number
}

/** Everything that the rows of a stage depend on, as one name. */
export async function storeKey(data: StageData, kind: string, options: MakerOptions & { tokenizer: Tokenizer | null }): Promise<string> {
  const { tokenizer, vocabSize, appendEos, countAll, maxSeqLen, maxPromptLen, maxAnswerLen } = options
  const settings = { version, kind, vocabSize, appendEos, countAll, maxSeqLen, maxPromptLen, maxAnswerLen, rules: data.rules }
  const hash = createHash('sha256').update(JSON.stringify(settings))
  for (const file of data.files) hash.update(await fileHash(file))
  if (tokenizer?.folder) hash.update(await tokenizerHash(tokenizer.folder))
  return hash.digest('hex').slice(0, 40)
}

async function fileHash(file: string): Promise<Buffer> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash).catch((error: unknown) => failOnFile(error, `to read ${file}`))
  return hash.digest()
}

/** Of the files that decide which ids a text gets. */
async function tokenizerHash(folder: string): Promise<Buffer> {
  const hash = createHash('sha256')
  for (const name of [...tokenizerFileNames, 'config.json', 'generation_config.json']) {
    const file = path.join(folder, name)
    if (await pathExists(file)) hash.update(`\0${name}\0`).update(await readFile(file))
  }
  return hash.digest()
}

export interface OpenStore {
  facts: StoreFacts
  part(part: Part): { source: TokenSource; numbers: Uint32Array }
}

export class TokenStore {
  readonly folder: string

  constructor(
    private readonly root: string,
    key: string,
    private readonly most = mostInMemory,
  ) {
    this.folder = path.join(root, key)
  }

  #file(part: Part, what: 'ids' | 'counted' | 'numbers', folder = this.folder): string {
    return path.join(folder, `${part}.${what}`)
  }

  /** The rows, or null where they were not made yet or their folder is not what it should be. */
  async open(): Promise<OpenStore | null> {
    const facts = await this.#facts()
    if (facts === null) return null
    const numbers = {} as Record<Part, Uint32Array>
    const sources = {} as Record<Part, () => TokenSource>
    for (const part of parts) {
      const bytes = await readFile(this.#file(part, 'numbers')).catch(() => null)
      if (bytes === null || bytes.length % (4 * partNumbers) !== 0) return null
      numbers[part] = new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
      let tokens = 0
      for (let i = 0; i < numbers[part].length; i += partNumbers) tokens += numbers[part][i]!
      const files = [this.#file(part, 'ids'), this.#file(part, 'counted')] as const
      const sizes = await Promise.all(files.map((file) => stat(file).then((s) => s.size, () => -1)))
      if (sizes[0] !== 4 * tokens || sizes[1] !== tokens) return null
      const whole = 4 * tokens <= this.most ? await Promise.all(files.map((file) => readFile(file))) : null
      sources[part] = () => (whole === null ? fileSource(...files) : memorySource(new Int32Array(copied(whole[0]!)), new Uint8Array(copied(whole[1]!))))
    }
    // the newest are kept longest
    const now = new Date()
    await utimes(this.folder, now, now).catch(() => undefined)
    return { facts, part: (part) => ({ source: sources[part](), numbers: numbers[part] }) }
  }

  async #facts(): Promise<StoreFacts | null> {
    const file = path.join(this.folder, 'rows.json')
    if (!(await pathExists(file))) return null
    const json = await readJson(file).catch(() => null)
    return isJsonObject(json) && json['version'] === version ? (json as unknown as StoreFacts) : null
  }

  /** The rows that `fill` writes, or those of another process that was faster: both made the same. */
  async make(fill: (write: (part: Part, arrays: RowArrays) => Promise<void>) => Promise<StoreFacts>): Promise<OpenStore> {
    const failure = await this.#build(fill).then(
      () => null,
      (error: unknown) => error,
    )
    // the other one may just be moving its folder into place
    for (let attempt = 0; ; attempt++) {
      const made = await this.open()
      if (made !== null) return made
      if (failure !== null) throw failure
      if (attempt === 20) fail('token store', `the rows that were just written in ${this.folder}`, 'a folder that is not whole', 'another --data-output-path')
      await sleep(50)
    }
  }

  /** The folder appears when all is there. */
  async #build(fill: (write: (part: Part, arrays: RowArrays) => Promise<void>) => Promise<StoreFacts>): Promise<void> {
    await makeFolder(this.root)
    await atomicFolder(this.folder, async (temporary) => {
      let facts: StoreFacts
      const handles = new Map<string, FileHandle>()
      for (const part of parts) for (const what of ['ids', 'counted', 'numbers'] as const) handles.set(`${part}.${what}`, await open(this.#file(part, what, temporary), 'wx'))
      try {
        facts = await fill(async (part, arrays) => {
          for (const what of ['ids', 'counted', 'numbers'] as const) {
            const { buffer, byteOffset, byteLength } = arrays[what]
            await writeAll(handles.get(`${part}.${what}`)!, new Uint8Array(buffer, byteOffset, byteLength))
          }
        })
      } finally {
        for (const handle of handles.values()) await handle.close()
      }
      await writeJson(path.join(temporary, 'rows.json'), { version, ...facts })
    })
    await this.#prune()
  }

  /** Removes the folders that were not used for longest, until the rest fits. */
  async #prune(): Promise<void> {
    for (const name of (await readdir(this.root)).filter((n) => /^\.[0-9a-f]{40}\./.test(n))) {
      const folder = path.join(this.root, name)
      const changed = await stat(folder).then((s) => s.mtimeMs, () => Infinity)
      if (changed < Date.now() - abandonedMilliseconds) await rm(folder, { recursive: true, force: true })
    }
    const entries: { folder: string; used: number; bytes: number }[] = []
    for (const name of (await readdir(this.root)).filter((n) => /^[0-9a-f]{40}$/.test(n))) {
      const folder = path.join(this.root, name)
      const sizes = await Promise.all((await readdir(folder).catch(() => [])).map((file) => stat(path.join(folder, file)).then((s) => s.size, () => 0)))
      entries.push({ folder, used: await stat(folder).then((s) => s.mtimeMs, () => 0), bytes: sizes.reduce((a, b) => a + b, 0) })
    }
    let total = 0
    for (const { folder, bytes } of entries.sort((a, b) => b.used - a.used)) {
      total += bytes
      if (total > mostBytes && folder !== this.folder) await rm(folder, { recursive: true, force: true })
    }
  }
}

const copied = (bytes: Buffer): ArrayBuffer => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten
}
