// `inspect`: what a checkpoint holds and what it will take; or how rows become tokens and which of them count.
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'

import { ThreefoldError, fail } from '../base/errors.js'
import { pathExists } from '../base/files.js'
import type { Given, Resolved } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { checksumsName, verifyChecksums } from '../checkpoint/checksums.js'
import { readConfig, storedHead } from '../checkpoint/modelFolder.js'
import { tensorBytes } from '../checkpoint/safetensorsWriter.js'
import { openWeights } from '../checkpoint/storedTensors.js'
import type { StoredTensor, StoredWeights } from '../checkpoint/storedTensors.js'
import { inspectRow, rowWarnings } from '../data/inspect.js'
import type { TokenRow } from '../data/records.js'
import { describe } from '../data/records.js'
import type { RowCodec } from '../data/rowList.js'
import { openStageData } from '../data/stageData.js'
import type { RowMaker } from '../data/tokenize.js'
import { rowKinds } from '../data/tokenize.js'
import { Tokenizer } from '../data/tokenizer.js'
import type { ConfigJson } from '../model/config.js'
import { readSpec } from '../model/families/registry.js'
import type { DecoderSpec, HeadKind } from '../model/spec.js'
import { planMemory } from './memory.js'
import { findModel } from './openModel.js'
import { hubHooks, loadSpec, silent } from './shared.js'
import { inspectOptions } from './useOptions.js'

/** Bytes in one type. */
export interface PrecisionMemory {
  weights: number
  /** Weights, gradients and AdamW's state. */
  training: number
  /** KV cache of 1024 tokens. */
  cache: number
}

export interface ModelInspection {
  folder: string
  /** model_type of config.json. */
  family: unknown
  architectures: unknown
  /** What the weights are: a language model, or a reward model with its scalar head. */
  head: HeadKind
  /** Why this version cannot use it, or null. */
  problem: string | null
  /** Null where config.json is not understood. */
  numbers: Pick<DecoderSpec, 'layers' | 'hidden' | 'heads' | 'kvHeads' | 'headDim' | 'ffn' | 'vocab' | 'maxPositions' | 'tiedHead'> | null
  /** Elements of all tensors, the same bytes under two names once. */
  parameters: number
  tokenizer: { vocabSize: number; bosToken: string | null; eosToken: string | null; chatTemplate: boolean } | null
  files: { name: string; bytes: number }[]
  /** How many files have the SHA-256 that checksums.json lists; null without one. */
  verified: number | null
  memory: { fp32: PrecisionMemory; bf16: PrecisionMemory } | null
  tensors: { name: string; dtype: string; shape: readonly number[]; bytes: number }[]
}

export interface RowsInspection {
  rows: { place: string; parts: { name: string; ids: number[]; counted: number[]; text: string }[] }[]
  /** What is odd about the first rows, as sentences. */
  warnings: string[]
  /** Rows that were looked at. */
  looked: number
  /** Those that do not fit or hold nothing that counts. */
  dropped: number
}

/** Opens a checkpoint without loading it. Errors: files that are not there or damaged; a model that is not supported is no error. */
export async function inspectModel(given: Given<typeof inspectOptions>, hooks: RunHooks = silent): Promise<ModelInspection> {
  const { model } = resolveOptions('inspect', inspectOptions, given)
  const { folder } = await findModel(model, hubHooks(hooks))
  const { json: config } = await readConfig(folder)
  const weights = await openWeights(folder)
  const { spec, problem } = specOf(config, folder)
  const head = storedHead(config, weights)
  return {
    folder,
    family: config['model_type'] ?? null,
    architectures: config['architectures'] ?? null,
    head,
    problem,
    numbers: spec && numbersOf(spec),
    parameters: parametersOf(weights),
    tokenizer: await tokenizerOf(folder),
    files: await filesOf(weights),
    verified: (await pathExists(join(folder, checksumsName))) ? (await verifyChecksums(folder)).length : null,
    memory: spec && { fp32: memoryOf(spec, head, 'fp32'), bf16: memoryOf(spec, head, 'bf16') },
    tensors: Array.from(weights.entries.values(), ({ name, dtype, shape }) => ({ name, dtype, shape, bytes: tensorBytes({ dtype, shape }) })),
  }
}

function specOf(config: ConfigJson, folder: string): { spec: DecoderSpec | null; problem: string | null } {
  try {
    return { spec: readSpec(config, join(folder, 'config.json')).spec, problem: null }
  } catch (error) {
    if (!(error instanceof ThreefoldError)) throw error
    return { spec: null, problem: error.message }
  }
}

function numbersOf({ layers, hidden, heads, kvHeads, headDim, ffn, vocab, maxPositions, tiedHead }: DecoderSpec): NonNullable<ModelInspection['numbers']> {
  return { layers, hidden, heads, kvHeads, headDim, ffn, vocab, maxPositions, tiedHead }
}

function parametersOf({ entries }: StoredWeights): number {
  const seen = new Map<string, StoredTensor>()
  for (const entry of entries.values()) seen.set(JSON.stringify([entry.file, entry.begin, entry.end]), entry)
  return [...seen.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
}

async function tokenizerOf(folder: string): Promise<ModelInspection['tokenizer']> {
  const tokenizer = await Tokenizer.tryLoad(folder)
  if (tokenizer === null) return null
  const { vocabSize, bosToken, eosToken, chatTemplate } = tokenizer
  return { vocabSize, bosToken, eosToken, chatTemplate: chatTemplate !== null }
}

async function filesOf({ entries }: StoredWeights): Promise<ModelInspection['files']> {
  const files = [...new Set(Array.from(entries.values(), ({ file }) => file))].sort()
  return Promise.all(files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size })))
}

function memoryOf(spec: DecoderSpec, head: HeadKind, dtype: 'fp32' | 'bf16'): PrecisionMemory {
  const plan = planMemory([{ spec, head, trained: true, positions: 0 }], dtype, { tokens: 0, cache: { pages: 1, pageSize: 1024 } })
  const { parameters, gradients, optimizer, kvCache } = plan
  return { weights: parameters, training: parameters + gradients + optimizer, cache: kvCache }
}

/** Tokenises the first rows as a step would. Errors: as reading and tokenising. */
export async function inspectRows(given: Given<typeof inspectOptions>, hooks: RunHooks = silent): Promise<RowsInspection & { shown: string[] }> {
  const options = resolveOptions('inspect', inspectOptions, given)
  const { folder, spec } = await loadSpec(options.model, hooks)
  const tokenizer = await Tokenizer.load(folder)
  const { maker, codec } = makerFor(options, tokenizer, spec)
  const step = ({ pretrain: 1, sft: 1, reward: 2, dpo: 2, ppo: 3 } as const)[options.step]
  const nothingHeld = { dataWeights: null, dataSplit: null, evalDataPath: [], evalFraction: 0, seed: 0 }
  const data = await openStageData({ dataPath: options.data, columns: options.columns, ...nothingHeld }, step, hubHooks(hooks))

  const result: RowsInspection & { shown: string[] } = { rows: [], warnings: [], looked: 0, dropped: 0, shown: [] }
  const seen: TokenRow[] = []
  for await (const { row, copies } of data.rows()) {
    if (copies === 0 || result.looked >= Math.max(options.rows, options.warnRows)) break
    result.looked++
    const fate = maker(row, (tokens) => {
      const parts = codec.parts(tokens)
      seen.push(...parts)
      if (result.rows.length >= options.rows) return
      const names = codec.names(tokens)
      const place = describe(row.at)
      result.rows.push({ place, parts: parts.map((part, i) => ({ name: names[i]!, ids: Array.from(part.ids), counted: Array.from(part.counted), text: tokenizer.decode(part.ids, { skipSpecial: false }) })) })
      result.shown.push(...parts.map((part, i) => `${place}, ${names[i]!}: ${inspectRow(part, tokenizer)}`))
    })
    if (fate !== 'kept') result.dropped++
  }
  // prompts have no answer that could count or end
  if (options.step !== 'ppo') result.warnings = rowWarnings(seen, tokenizer)
  if (seen.length === 0) fail('inspect', `rows of at most ${options.maxSeqLen} tokens in which something counts`, `none of ${result.looked}`, 'a larger --max-seq-len')
  return result
}

function makerFor({ step, lossOn, maxSeqLen }: Resolved<typeof inspectOptions>, tokenizer: Tokenizer, spec: DecoderSpec): { maker: RowMaker<unknown>; codec: RowCodec<unknown> } {
  const kind = rowKinds[({ pretrain: 'texts', sft: 'answers', reward: 'rankings', dpo: 'pairs', ppo: 'prompts' } as const)[step]]
  const limits = step === 'ppo' ? { maxPromptLen: maxSeqLen } : { maxSeqLen }
  const maker = kind.maker({ tokenizer, vocabSize: spec.vocab, countAll: lossOn === 'all', ...limits })
  return { maker: maker as RowMaker<unknown>, codec: kind.codec as RowCodec<unknown> }
}
