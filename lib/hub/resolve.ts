/** A model or data set by path or by hub id -> a local folder. */
import path from 'node:path'
import { Interrupted, fail } from '../base/errors.js'
import { pathExists, readJsonIfThere } from '../base/files.js'
import { isJsonObject } from '../base/json.js'
import { RepoCache, checkedCommit, checkedPath } from './cache.js'
import type { RemoteFile } from './download.js'
import { download } from './download.js'
import type { Environment, HubSettings } from './environment.js'
import { hubSettings } from './environment.js'
import type { Client, Repo, RepoKind } from './requests.js'
import { Passing, apiPath, getJson, unreachable } from './requests.js'
import { adapterFileNames, dataFileNames, isWeights, modelFileNames } from './select.js'

export interface HubProgress {
  /** "owner/name" */
  readonly id: string
  /** The file that is being read. */
  readonly file: string
  /** Over all files. */
  readonly bytes: number
  readonly totalBytes: number
}

/** What whoever waits for a download passes along. */
export interface HubHooks {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (progress: HubProgress) => void
}

export interface ResolveOptions extends HubHooks {
  /** Of a model: false = its configuration and tokenizer alone. */
  readonly weights?: boolean
  /** Instead of process.env. */
  readonly env?: Environment
  /** Which of the names are wanted; without it those a model or data set needs. */
  readonly select?: (names: readonly string[]) => readonly string[]
  /** Tries in a row without a byte (5), wait before the second (1 s, doubled each time), silence until one is given up (60 s). */
  readonly tries?: number
  readonly waitMs?: number
  readonly idleMs?: number
}

const idForm = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/
const parquetBranch = 'refs/convert/parquet'

/** "owner/name" or "owner/name@revision"; null for anything else, which can only be a path. */
export function parseHubId(text: string): { id: string; revision: string | null } | null {
  const at = text.indexOf('@')
  const id = at < 0 ? text : text.slice(0, at)
  const revision = at < 0 ? null : text.slice(at + 1)
  // "data/rows.jsonl" is a path, whether it is there or not
  if (/\.(?:jsonl?|csv|parquet|gz|txt|safetensors|bin)$/.test(id)) return null
  return idForm.test(id) && !id.includes('--') && !id.includes('..') && revision !== '' ? { id, revision } : null
}

/** The folder of a model: the path itself where it is there, else the hub's repository of that name, downloaded. */
export function resolveModel(idOrPath: string, options: ResolveOptions = {}): Promise<string> {
  return resolve('model', idOrPath, options)
}

/** The same for a data set. A repository without data files is read from the Parquet files the hub has made of it. */
export function resolveDataset(idOrPath: string, options: ResolveOptions = {}): Promise<string> {
  return resolve('dataset', idOrPath, options)
}

async function resolve(kind: RepoKind, idOrPath: string, options: ResolveOptions): Promise<string> {
  if (await pathExists(idOrPath)) return idOrPath
  const named = parseHubId(idOrPath)
  if (named === null) fail('hub', `a ${kind} at ${idOrPath}, or a hub id such as owner/name`, 'no such path', 'to check the path')
  const settings = await hubSettings(options.env)
  const client: Client = { settings, signal: options.signal, tries: options.tries ?? 5, waitMs: options.waitMs ?? 1000, idleMs: options.idleMs ?? 60_000 }
  const repo: Repo = { kind, id: named.id, revision: checkedPath(named.revision ?? 'main', 'a revision') }
  const found = await snapshotOf(client, repo, options)
  if (found !== null) return found
  const converted = kind === 'dataset' && named.revision === null ? await snapshotOf(client, { ...repo, revision: parquetBranch }, options).catch(onlyInterrupted) : null
  if (converted !== null) return converted
  if (settings.offline) refuseOffline(settings, repo)
  const what = kind === 'model' ? 'a model with config.json and weights (.safetensors or pytorch_model.bin)' : 'a data set with .parquet, .jsonl, .json or .csv files'
  fail('hub', `${what} in ${repo.id}`, 'none of them', kind === 'model' ? 'a repository in the layout of transformers' : 'to download it by other means and to name the files')
}

function onlyInterrupted(error: unknown): null {
  if (error instanceof Interrupted) throw error
  return null
}

function refuseOffline(settings: HubSettings, { kind, id, revision }: Repo): never {
  const at = revision === 'main' ? '' : ` at ${revision}`
  fail('hub', `the ${kind} ${id}${at} in ${settings.cache}`, 'nothing that is complete, and HF_HUB_OFFLINE is set', 'a run without HF_HUB_OFFLINE first, or a local folder')
}

/** Null where the repository (or the cache, when it is all there is) has nothing of what is wanted. */
async function snapshotOf(client: Client, repo: Repo, options: ResolveOptions): Promise<string | null> {
  const cache = new RepoCache(client.settings, repo)
  const known = await cached(cache, options)
  if (client.settings.offline) return known
  try {
    return await downloadSnapshot(known === null ? client : { ...client, tries: Math.min(client.tries, 2) }, cache, options)
  } catch (error) {
    if (!(error instanceof Passing)) throw error
    // without a network, what was downloaded before is what there is
    if (known !== null) return known
    throw unreachable(error, client, `the ${repo.kind} ${repo.id}`)
  }
}

/** The snapshot in the cache, where all that is wanted of it is there. */
async function cached(cache: RepoCache, options: ResolveOptions): Promise<string | null> {
  const snapshot = await cache.known()
  if (snapshot === null) return null
  const names = await cache.filesOf(snapshot)
  return wanted(cache.repo.kind, names, options).length > 0 && (options.weights === false || (await isWhole(cache.repo.kind, snapshot, names))) ? snapshot : null
}

function wanted(kind: RepoKind, names: readonly string[], { select, weights = true }: ResolveOptions): readonly string[] {
  if (select) return select(kind === 'dataset' ? dataFileNames(names) : names)
  if (kind === 'dataset') return dataFileNames(names)
  const adapter = adapterFileNames(names)
  if (adapter.length > 0) return adapter
  const files = weights ? modelFileNames(names) : modelFileNames(names).filter((name) => !isWeights(name) && !name.endsWith('.index.json'))
  return files.includes('config.json') && (!weights || files.some(isWeights)) ? files : []
}

/** A model that is cut into several files is whole when those that its index names are there. */
async function isWhole(kind: RepoKind, snapshot: string, names: readonly string[]): Promise<boolean> {
  const index = names.find((name) => /^(?:model\.safetensors|pytorch_model\.bin)\.index\.json$/.test(name))
  if (kind !== 'model' || index === undefined) return true
  const value = await readJsonIfThere(path.join(snapshot, index))
  const files = isJsonObject(value) && isJsonObject(value['weight_map']) ? Object.values(value['weight_map']) : []
  return files.every((name) => names.includes(String(name)))
}

async function downloadSnapshot(client: Client, cache: RepoCache, options: ResolveOptions): Promise<string | null> {
  const { repo } = cache
  const { value: info } = await getJson(client, repo, `${apiPath(repo)}/revision/${encodeURIComponent(repo.revision)}`)
  const commit = checkedCommit(isJsonObject(info) ? info['sha'] : null, repo.id)
  const all = await listFiles(client, repo, commit)
  const names = new Set(wanted(repo.kind, all.map(({ name }) => name), options))
  const files = all.filter(({ name }) => names.has(name))
  if (files.length === 0) return null
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  let before = 0
  for (const file of files) {
    await download(client, cache, commit, file, (done) => options.onProgress?.({ id: repo.id, file: file.name, bytes: before + done, totalBytes }))
    await cache.place(commit, file.name, file.etag)
    before += file.size
  }
  await cache.remember(commit)
  return cache.snapshot(commit)
}

/** Every file at a commit, with size and hash, over all pages. */
async function listFiles(client: Client, repo: Repo, commit: string): Promise<RemoteFile[]> {
  const files: RemoteFile[] = []
  let next: string | null = `${apiPath(repo)}/tree/${commit}?recursive=true`
  while (next !== null) {
    const page: Awaited<ReturnType<typeof getJson>> = await getJson(client, repo, next)
    if (!Array.isArray(page.value)) fail('hub', `a list of the files of ${repo.id}`, 'something else', 'to check HF_ENDPOINT: it does not answer as the hub does')
    for (const entry of page.value as unknown[]) {
      if (!isJsonObject(entry) || entry['type'] !== 'file') continue
      files.push(remoteFile(entry, repo))
    }
    next = page.next
  }
  return files
}

function remoteFile(entry: Record<string, unknown>, repo: Repo): RemoteFile {
  const large = isJsonObject(entry['lfs']) ? entry['lfs'] : null
  const name = entry['path']
  const etag = large === null ? entry['oid'] : large['oid']
  const size = large?.['size'] ?? entry['size']
  const right = typeof name === 'string' && typeof etag === 'string' && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) && typeof size === 'number' && Number.isSafeInteger(size) && size >= 0
  if (!right) fail('hub', `path, size and hash of each file of ${repo.id}`, JSON.stringify(entry).slice(0, 200), 'to check HF_ENDPOINT: it does not answer as the hub does')
  return { name: checkedPath(name, 'a file name'), size, etag }
}
