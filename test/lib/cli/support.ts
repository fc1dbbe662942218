/** Runs the command line in a process of its own, and makes small models and data for it. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { ExecutionContext } from 'ava'

import { tokenizerJson, vocabSize } from '../data/support.js'

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

export interface RunSettings {
  input?: string
  nodeFlags?: string[]
  env?: Record<string, string>
  /** Called at each piece of stderr; may send a signal. */
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** `threefold <args>`; the process ends or the test times out. */
export function threefold(args: readonly string[], { input = '', nodeFlags = [], env = {}, onStderr }: RunSettings = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...nodeFlags, '--import', 'tsx', 'lib/cli/main.ts', ...args], { env: { ...process.env, NODE_OPTIONS: '', ...env } })
    const out = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out.stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      out.stderr += text
      onStderr?.(out.stderr, (signal) => child.kill(signal))
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, ...out }))
    child.stdin.end(input)
  })
}

export async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'threefold-cli-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

export const fixture = (name: string): string => join('test', 'fixtures', 'models', name)

/** A folder with config.json and a tokenizer, from which `init` makes a model. */
export async function blueprint(t: ExecutionContext): Promise<string> {
  const path = await folder(t)
  const config = {
    model_type: 'opt',
    architectures: ['OPTForCausalLM'],
    vocab_size: vocabSize,
    hidden_size: 16,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    ffn_dim: 32,
    max_position_embeddings: 64,
    word_embed_proj_dim: 16,
    do_layer_norm_before: true,
    activation_function: 'relu',
    tie_word_embeddings: true,
  }
  await writeFile(join(path, 'config.json'), JSON.stringify(config))
  await writeFile(join(path, 'tokenizer.json'), JSON.stringify(tokenizerJson()))
  await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }))
  return path
}

export async function jsonl(path: string, rows: readonly object[]): Promise<string> {
  await writeFile(path, rows.map((row) => JSON.stringify(row) + '\n').join(''))
  return path
}

export const parsed = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
