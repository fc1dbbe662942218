/** The fixtures that test/oracle/tokenizer_cases.py wrote, and folders made of them. */
import { readFileSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { ExecutionContext } from 'ava'
import { Tokenizer } from '../../../../lib/data/tokenizer.js'
import { temporaryFolder } from '../support.js'

const fixtures = fileURLToPath(new URL('../../../fixtures/tokenizers/', import.meta.url))

export interface TokenizerFixture {
  /** Base64 by name. */
  readonly files: Readonly<Record<string, string>>
  readonly texts: readonly string[]
  /** Ids of each text, without and with special tokens around it. */
  readonly plain: readonly (readonly number[])[]
  readonly special: readonly (readonly number[])[]
  /** What the ids decode to; null where the reference is SentencePiece and shows its own sign for the unknown piece. */
  readonly decoded: readonly (string | null)[]
  /** The ids with special tokens, decoded without them. */
  readonly skipped?: readonly string[]
  readonly sequences?: readonly (readonly number[])[]
  readonly sequenceTexts?: readonly string[]
  readonly bos: number | null
  readonly eos: number | null
  readonly size: number
}

export function fixture<T>(name: string): T {
  return JSON.parse(gunzipSync(readFileSync(path.join(fixtures, `${name}.json.gz`))).toString('utf8')) as T
}

/** The names of all tokenizers saved as folders. */
export function tokenizerNames(): string[] {
  const names = readdirSync(fixtures).map((name) => name.replace('.json.gz', ''))
  return names.filter((name) => name !== 'pipelines' && name !== 'regexes')
}

/** A folder with the files of a fixture; `change` may replace or remove (null) some. */
export async function fixtureFolder(t: ExecutionContext, name: string, change: Readonly<Record<string, string | Uint8Array | null>> = {}): Promise<string> {
  const folder = await temporaryFolder(t)
  const files = Object.entries(fixture<TokenizerFixture>(name).files).map(([file, text]): [string, string | Uint8Array | null] => [file, Buffer.from(text, 'base64')])
  for (const [file, content] of new Map([...files, ...Object.entries(change)])) {
    if (content !== null) await writeFile(path.join(folder, file), content)
  }
  return folder
}

export async function fixtureTokenizer(t: ExecutionContext, name: string, change: Readonly<Record<string, string | Uint8Array | null>> = {}): Promise<Tokenizer> {
  return Tokenizer.load(await fixtureFolder(t, name, change))
}
