// A model folder with a byte tokenizer, a toy task, and readers of what a run writes.
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { ExecutionContext } from 'ava'

import { writeJson } from '../../../lib/base/files.js'
import { Progress } from '../../../lib/base/progress.js'
import type { RunHooks } from '../../../lib/base/run.js'
import { ConfigText } from '../../../lib/checkpoint/configText.js'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { createDevice } from '../../../lib/tensor/device.js'
import { bosId, eosId, temporaryFolder, tokenizerConfig, tokenizerJson, vocabSize, writeLines } from '../data/support.js'

export const config = {
  model_type: 'opt',
  architectures: ['OPTForCausalLM'],
  vocab_size: vocabSize,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  ffn_dim: 64,
  max_position_embeddings: 48,
  word_embed_proj_dim: 32,
  bos_token_id: bosId,
  eos_token_id: eosId,
  pad_token_id: null,
  init_std: 0.08,
}

/** A fresh model with its tokenizer in <folder>/<name>. */
export async function makeModel(folder: string, name = 'base', numbers: object = {}): Promise<string> {
  const blueprint = join(folder, `${name}-blueprint`)
  await mkdir(blueprint, { recursive: true })
  await writeJson(join(blueprint, 'tokenizer.json'), tokenizerJson({ around: false }))
  await writeJson(join(blueprint, 'tokenizer_config.json'), tokenizerConfig)
  using device = createDevice({ threads: 1 })
  using model = await LoadedModel.init(device, ConfigText.of({ ...config, ...numbers }), 'config.json', blueprint, 1, 'fp32')
  await model.save(join(folder, name))
  return join(folder, name)
}

/** The task: after "say x:" comes "xx", never "zz". */
const letters = 'abcdefgijkmnopqr' // the tokenizer merges "he" and "ll": without them, each letter is one token
export const preferenceRows = Array.from({ length: 48 }, (_, i) => {
  const x = letters[i % letters.length]!
  return { prompt: `say ${x}${'!'.repeat(Math.floor(i / letters.length))}:`, chosen: `${x}${x}`, rejected: i % 2 ? 'zz' : `z${x}` }
})

export interface Setting {
  folder: string
  model: string
  /** 48 {prompt, chosen, rejected} rows. */
  data: string
}

export async function makeSetting(t: ExecutionContext, numbers: object = {}): Promise<Setting> {
  const folder = await temporaryFolder(t)
  return { folder, model: await makeModel(folder, 'base', numbers), data: await writeLines(folder, 'data.jsonl', preferenceRows) }
}

export type Line = Record<string, number | string | null>

export async function readLines(folder: string, name: 'metrics' | 'samples'): Promise<Line[]> {
  const text = await readFile(join(folder, `${name}.jsonl`), 'utf8')
  return text === '' ? [] : text.trimEnd().split('\n').map((line) => JSON.parse(line) as Line)
}

/** The training lines (not the evaluations) of metrics.jsonl. */
export const steps = (lines: readonly Line[]): Line[] => lines.filter((l) => 'loss' in l)
export const evaluations = (lines: readonly Line[]): Line[] => lines.filter((l) => Object.keys(l).some((k) => k.startsWith('eval/')))
export const column = (lines: readonly Line[], name: string): number[] => lines.map((l) => l[name] as number)

/** Hooks whose signal fires when the progress line matches, and the lines that were shown. */
export function stopAt(pattern: RegExp): { hooks: RunHooks; shown: string[] } {
  const stopper = new AbortController()
  const shown: string[] = []
  const write = (text: string): void => {
    shown.push(text)
    if (pattern.test(text)) stopper.abort()
  }
  return { hooks: { progress: new Progress({ write }), signal: stopper.signal }, shown }
}

/** Reads a model folder back and gives its parameters in one array. */
export async function weightsOf(folder: string): Promise<Float32Array> {
  using device = createDevice({ threads: 1 })
  using model = await LoadedModel.load(device, folder, { dtype: 'fp32' })
  const parts = await Promise.all(model.decoder.units.map((u) => u.params.read() as Promise<Float32Array>))
  return Float32Array.from(parts.flatMap((p) => Array.from(p)))
}
