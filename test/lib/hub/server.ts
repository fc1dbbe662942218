// A hub on loopback: the answers of the real one that the downloader looks at, and the ways in which they go wrong.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { ExecutionContext } from 'ava'

export interface HubRepo {
  kind: 'model' | 'dataset'
  id: string
  /** By revision; "main" is the first. */
  revisions: Record<string, Record<string, string | Buffer>>
  /** Names that lie in large file storage: another host, addressed by a redirect. */
  large?: RegExp
  gated?: 'anonymous' | 'always'
}

export interface Asked {
  method: string
  path: string
  range: string | undefined
  token: string | undefined
  /** Which of the two hosts was asked. */
  host: 'hub' | 'storage'
}

export const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')
const gitHash = (content: Buffer): string => createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
/** A commit for every content of a revision. */
export const commitOf = (files: Record<string, string | Buffer>): string => createHash('sha1').update(JSON.stringify(Object.entries(files).map(([name, content]) => [name, sha256(content)]))).digest('hex')

export class HubServer {
  readonly asked: Asked[] = []
  /** What happens to a file's next answers, one each: bytes after which the connection is cut, or another content. */
  readonly faults = new Map<string, ({ cut: number } | { instead: Buffer } | { status: number } | { stall: true } | { etag: string })[]>()
  /** Answers that come before anything else: statuses. */
  readonly statuses: number[] = []
  ranges = true
  pageSize = 1000
  token: string | null = null
  readonly #repos: HubRepo[]
  readonly #hub: Server
  readonly #storage: Server

  private constructor(repos: HubRepo[]) {
    this.#repos = repos
    this.#hub = createServer((request, response) => this.#answer(request, response, 'hub'))
    this.#storage = createServer((request, response) => this.#answer(request, response, 'storage'))
  }

  static async start(t: ExecutionContext, repos: HubRepo[]): Promise<HubServer> {
    const server = new HubServer(repos)
    for (const each of [server.#hub, server.#storage]) {
      each.listen(0, '127.0.0.1')
      await once(each, 'listening')
    }
    t.teardown(() => server.stop())
    return server
  }

  stop(): void {
    for (const each of [this.#hub, this.#storage]) {
      each.closeAllConnections()
      each.close()
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`
  }

  /** Requests for a file's content. */
  got(name: string): Asked[] {
    return this.asked.filter(({ path }) => path.endsWith(`/${name}`) && /\/resolve\/|\/storage\//.test(path))
  }

  #answer(request: IncomingMessage, response: ServerResponse, host: 'hub' | 'storage'): void {
    const url = new URL(request.url!, 'http://x')
    const token = request.headers.authorization?.replace('Bearer ', '')
    this.asked.push({ method: request.method!, path: decodeURIComponent(url.pathname), range: request.headers.range, token, host })
    const status = this.statuses.shift()
    if (status !== undefined) return void response.writeHead(status, { 'retry-after': '0' }).end()
    if (this.token !== null && host === 'hub' && token !== this.token) return this.#refuse(response, 401, 'RepoNotFound')
    const api = /^\/api\/(model|dataset)s\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname)
    const file = /^\/(?:storage\/)?(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname)
    const kind = api?.[1] ?? (file?.[1] ? 'dataset' : 'model')
    const repo = this.#repos.find((r) => r.kind === kind && r.id === (api ?? file)?.[2])
    if (repo === undefined || (api ?? file) === null) return this.#refuse(response, 401, 'RepoNotFound')
    if (repo.gated === 'always' || (repo.gated && token === undefined && host === 'hub')) return this.#refuse(response, 403, 'GatedRepo')
    const revision = decodeURIComponent(api?.[4] ?? file![3]!)
    const files = repo.revisions[revision] ?? Object.values(repo.revisions).find((f) => commitOf(f) === revision)
    if (files === undefined) return this.#refuse(response, 404, 'RevisionNotFound')
    if (api?.[3] === 'revision') return this.#json(response, { id: repo.id, sha: commitOf(files) })
    if (api?.[3] === 'tree') return this.#tree(response, url, repo, files)
    const name = decodeURIComponent(file![4]!)
    const content = files[name]
    if (content === undefined) return this.#refuse(response, 404, 'EntryNotFound')
    this.#file(request, response, { host, name, content: Buffer.from(content), large: repo.large?.test(name) === true, commit: commitOf(files) })
  }

  #refuse(response: ServerResponse, status: number, code: string): void {
    response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' }).end('{"error":"no"}')
  }

  #json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
  }

  #tree(response: ServerResponse, url: URL, repo: HubRepo, files: Record<string, string | Buffer>): void {
    const entries = Object.entries(files).map(([path, text]) => {
      const content = Buffer.from(text)
      const lfs = repo.large?.test(path) ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 134 } } : {}
      return { type: 'file', oid: gitHash(content), size: content.length, path, ...lfs }
    })
    const from = Number(url.searchParams.get('cursor') ?? 0)
    const next: Record<string, string> = from + this.pageSize < entries.length ? { link: `<${this.endpoint}${url.pathname}?recursive=true&cursor=${from + this.pageSize}>; rel="next"` } : {}
    this.#json(response, [...(from === 0 ? [{ type: 'directory', path: 'folder', oid: '0' }] : []), ...entries.slice(from, from + this.pageSize)], next)
  }

  #file(request: IncomingMessage, response: ServerResponse, { host, name, content: whole, large, commit }: { host: 'hub' | 'storage'; name: string; content: Buffer; large: boolean; commit: string }): void {
    const fault = host === 'hub' && large ? undefined : this.faults.get(name)?.shift()
    const etag = fault && 'etag' in fault ? fault.etag : large ? sha256(whole) : gitHash(whole)
    const named = { 'x-repo-commit': commit, ...(large ? { 'x-linked-etag': `"${etag}"`, 'x-linked-size': String(whole.length) } : { etag: `W/"${etag}"` }) }
    if (large && host === 'hub') {
      const { port } = this.#storage.address() as AddressInfo
      return void response.writeHead(302, { ...named, location: `http://localhost:${port}/storage${request.url!}` }).end()
    }
    if (fault && 'status' in fault) return void response.writeHead(fault.status).end()
    const content = fault && 'instead' in fault ? fault.instead : whole
    const from = this.ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0
    if (from > 0 && from >= content.length) return void response.writeHead(416).end()
    const body = content.subarray(from)
    const headers = { ...(host === 'hub' ? named : {}), 'content-length': String(body.length), ...(from > 0 ? { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` } : {}) }
    response.writeHead(from > 0 ? 206 : 200, headers)
    if (fault && 'stall' in fault) return void response.write(body.subarray(0, 10))
    if (fault && 'cut' in fault) return void response.write(body.subarray(0, fault.cut), () => setTimeout(() => response.destroy(), 20))
    response.end(body)
  }
}
