/** Where the hub is and where its files are kept: the environment variables of Hugging Face's own tools. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { fail } from '../base/errors.js'

export type Environment = Readonly<Record<string, string | undefined>>

export interface HubSettings {
  /** Without a slash at the end. */
  readonly endpoint: string
  /** Holds models--owner--name and datasets--owner--name, as Python's huggingface_hub does. */
  readonly cache: string
  readonly token: string | null
  /** HF_HUB_OFFLINE: nothing is asked of the network. */
  readonly offline: boolean
}

const isOn = (value: string | undefined): boolean => ['1', 'on', 'yes', 'true'].includes((value ?? '').toLowerCase())

function homeOf(env: Environment): string {
  if (env['HF_HOME']) return path.resolve(env['HF_HOME'].replace(/^~(?=$|\/)/, homedir()))
  return path.join(env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'huggingface')
}

async function tokenOf(env: Environment, home: string): Promise<string | null> {
  const given = env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN']
  if (given) return given.trim()
  const file = env['HF_TOKEN_PATH'] || path.join(home, 'token')
  // most users have none: public files need no token
  return readFile(file, 'utf8').then(
    (text) => text.trim() || null,
    () => null,
  )
}

function endpointOf(env: Environment): string {
  const endpoint = (env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, '')
  if (/^https?:\/\/./.test(endpoint) && URL.canParse(endpoint)) return endpoint
  fail('HF_ENDPOINT', 'an address that begins with https:// or http://', JSON.stringify(endpoint), 'HF_ENDPOINT=https://huggingface.co, or to unset it')
}

/** Errors: HF_ENDPOINT that is no address. */
export async function hubSettings(env: Environment = process.env): Promise<HubSettings> {
  const home = homeOf(env)
  return {
    endpoint: endpointOf(env),
    cache: env['HF_HUB_CACHE'] || env['HUGGINGFACE_HUB_CACHE'] || path.join(home, 'hub'),
    token: await tokenOf(env, home),
    offline: isOn(env['HF_HUB_OFFLINE']),
  }
}
