/** Requests to the hub: token, redirects, retries, and what its refusals mean. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Interrupted, ThreefoldError, fail } from '../base/errors.js'
import type { HubSettings } from './environment.js'

export type RepoKind = 'model' | 'dataset'

export interface Repo {
  readonly kind: RepoKind
  /** "owner/name" */
  readonly id: string
  /** A branch, a tag or a commit. */
  readonly revision: string
}

export interface Client {
  readonly settings: HubSettings
  readonly signal?: AbortSignal | undefined
  /** Tries in a row that may end without a single byte. */
  readonly tries: number
  /** Wait before the second try; it doubles with each one. */
  readonly waitMs: number
  /** A connection on which nothing arrives for so long is given up. */
  readonly idleMs: number
}

/** A failure that another try may not have: a cut connection, an answer 429 or 5xx. */
export class Passing extends Error {
  /** No server answered at all, as without a network. */
  readonly unreached: boolean

  constructor(
    message: string,
    readonly waitMs = 0,
    options?: ErrorOptions,
  ) {
    super(message, options)
    const cause = options?.cause instanceof Error ? options.cause.cause : null
    this.unreached = cause instanceof Error && 'code' in cause && /^(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH)$/.test(String(cause.code))
  }
}

const maxRedirects = 8
const passingStatus = new Set([408, 425, 429, 500, 502, 503, 504])

/** "owner/name" with the part of an address that its kind has. */
export const repoPath = ({ kind, id }: Repo): string => (kind === 'dataset' ? `datasets/${id}` : id)
export const apiPath = ({ kind, id }: Repo): string => `api/${kind}s/${id}`

/** Text of what went wrong, with the cause that fetch hides behind "fetch failed". */
export function wording(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : null
  return cause === null || cause === error.message ? error.message : `${error.message}: ${cause}`
}

function throwIfStopped(client: Client): void {
  if (client.signal?.aborted) throw new Interrupted(null)
}

/** A signal that fires when the caller stops or nothing has arrived for a while; `alive` puts the latter off. */
export class Patience implements Disposable {
  readonly #idle = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly signal: AbortSignal

  constructor(client: Client) {
    this.#timer = setTimeout(() => this.#idle.abort(new Error(`nothing arrived for ${client.idleMs / 1000} s`)), client.idleMs)
    this.signal = client.signal ? AbortSignal.any([client.signal, this.#idle.signal]) : this.#idle.signal
  }

  alive(): void {
    this.#timer.refresh()
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
  }
}

/** Runs `body` until it gives a result; only a Passing failure is tried again, and progress starts the count anew. */
export async function persist<T>(client: Client, body: () => Promise<T>, progressed: () => boolean = () => false): Promise<T> {
  for (let failed = 1; ; failed++) {
    throwIfStopped(client)
    try {
      return await body()
    } catch (error) {
      throwIfStopped(client)
      if (!(error instanceof Passing)) throw error
      if (progressed()) failed = 1
      if (failed >= (error.unreached ? Math.min(2, client.tries) : client.tries)) throw error
      // a little apart, so that many processes that lost one server do not come back at one moment
      const wait = Math.max(client.waitMs * 2 ** (failed - 1) * (0.75 + Math.random() / 2), error.waitMs)
      await sleep(wait, undefined, client.signal ? { signal: client.signal } : {}).catch(() => undefined)
    }
  }
}

/**
 * One GET. Redirects are followed by hand: the token goes to the hub alone, never to the host that a large file lies on.
 * `first` is the hub's own answer, which names etag and commit. Errors: Passing; a refusal in the project's shape.
 */
export async function get(client: Client, repo: Repo, path: string, patience: Patience, headers: Record<string, string> = {}): Promise<{ first: Headers; response: Response }> {
  const { endpoint, token } = client.settings
  let url = new URL(`${endpoint}/${path}`)
  let first: Headers | null = null
  for (let hop = 0; hop < maxRedirects; hop++) {
    const own = url.origin === new URL(endpoint).origin
    const authorization: Record<string, string> = own && token !== null ? { authorization: `Bearer ${token}` } : {}
    let response: Response
    try {
      response = await fetch(url, { redirect: 'manual', signal: patience.signal, headers: { 'user-agent': 'threefold', 'accept-encoding': 'identity', ...authorization, ...headers } })
    } catch (error) {
      throw new Passing(wording(error), 0, { cause: error })
    }
    patience.alive()
    first ??= response.headers
    const location = response.headers.get('location')
    if (response.status < 300 || response.status === 416) return { first, response }
    await response.body?.cancel().catch(() => undefined)
    if (response.status < 400 && location !== null) url = new URL(location, url)
    else if (passingStatus.has(response.status)) throw new Passing(`${response.status} from ${url.host}`, 1000 * Math.min(60, Number(response.headers.get('retry-after')) || 0))
    else refuse(client, repo, response.status, response.headers)
  }
  fail('hub', `an answer from ${endpoint}`, `more than ${maxRedirects} redirects`, 'to check HF_ENDPOINT')
}

function refuse({ settings }: Client, repo: Repo, status: number, headers: Headers): never {
  const { kind, id, revision } = repo
  const code = headers.get('x-error-code') ?? ''
  const said = `${status}${code === '' ? '' : ` ${code}`} from ${settings.endpoint}`
  const page = `${settings.endpoint}/${repoPath(repo)}`
  if (code === 'RevisionNotFound') fail('hub', `the revision ${revision} of the ${kind} ${id}`, said, `${id} without @${revision}, or a revision listed at ${page}`)
  if (code === 'GatedRepo' || status === 403) {
    const access = settings.token === null ? 'then set HF_TOKEN to a token of that account' : 'with the account that HF_TOKEN belongs to'
    fail('hub', `access to the ${kind} ${id}`, `${said}: it is gated`, `to ask for access at ${page}, ${access}`)
  }
  // the hub says 401 of a repository that is not there, so as not to tell which private ones exist
  if (status === 401 || status === 404) {
    const secret = settings.token === null ? 'HF_TOKEN where it is private' : 'a token that may read it where it is private'
    fail('hub', `a ${kind} folder at ${id}, or a repository of that name on the hub`, `no such path here, and ${said}`, `to check the name, or ${secret}`)
  }
  fail('hub', `the ${kind} ${id}`, said, 'again later, or to check HF_ENDPOINT')
}

/** The parsed JSON of an API answer, and the address of the next page where there is one. */
export async function getJson(client: Client, repo: Repo, path: string): Promise<{ value: unknown; next: string | null }> {
  return persist(client, async () => {
    using patience = new Patience(client)
    const { response } = await get(client, repo, path, patience)
    let text: string
    try {
      text = await response.text()
    } catch (error) {
      throw new Passing(wording(error), 0, { cause: error })
    }
    const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1] ?? null
    const next = link === null ? null : new URL(link, `${client.settings.endpoint}/`)
    try {
      return { value: JSON.parse(text) as unknown, next: next === null ? null : `${next.pathname}${next.search}`.slice(new URL(client.settings.endpoint).pathname.replace(/\/$/, '').length + 1) }
    } catch (error) {
      throw new Passing(`an answer that is not JSON from ${client.settings.endpoint}`, 0, { cause: error })
    }
  })
}

/** What is left of a Passing failure when no try is left. */
export function unreachable(error: unknown, { settings }: Client, what: string): ThreefoldError {
  if (error instanceof ThreefoldError) return error
  return new ThreefoldError('hub', `${what} as a path, or from ${settings.endpoint}`, `no such path, and ${wording(error)}`, 'again when the network is back (what has arrived is kept), or a local folder', { cause: error })
}
