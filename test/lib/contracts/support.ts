// Small models, prompts and rollouts shared by the tests of contracts, engine and stages.
import { native } from '../../../lib/binding/native.js'
import { ConfigText } from '../../../lib/checkpoint/configText.js'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { writeFloats } from '../../../lib/checkpoint/weights.js'
import { RandomSequence } from '../../../lib/base/random.js'
import type { TokenRow } from '../../../lib/data/records.js'
import type { Prompt, Rollout } from '../../../lib/engine/experience.js'
import type { TrainerOptions } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { normals } from '../../../lib/model/initialize.js'
import type { HeadKind } from '../../../lib/model/spec.js'
import { rowSeed } from '../../../lib/rollout/generate.js'
import type { GenerateOptions } from '../../../lib/rollout/generate.js'
import type { DType, NativeDevice } from '../device.js'
import { loadFixture } from '../model/oracle.js'

type Config = Record<string, unknown>

const opt = (numbers: Config): Config => ({
  model_type: 'opt',
  architectures: ['OPTForCausalLM'],
  vocab_size: 24,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  ffn_dim: 64,
  max_position_embeddings: 64,
  word_embed_proj_dim: 32,
  pad_token_id: 1,
  bos_token_id: 2,
  eos_token_id: 2,
  init_std: 0.08,
  ...numbers,
})

/** `tiny` trains in milliseconds. The wide ones cross every border of a sum: K 1024, 64 keys, 1024 words of vocabulary. */
export const configs: Record<string, Config> = {
  tiny: opt({}),
  'wide-opt': opt({ vocab_size: 1100, hidden_size: 66, word_embed_proj_dim: 66, num_attention_heads: 3, ffn_dim: 1090, num_hidden_layers: 1, max_position_embeddings: 200, init_std: 0.15 }),
  'wide-llama': {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: 1051,
    hidden_size: 72,
    num_hidden_layers: 1,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    intermediate_size: 1061,
    max_position_embeddings: 200,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    initializer_range: 0.15,
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  },
}

/** A model with fresh weights; biases and norms are moved off their defaults so that each of them matters. */
export async function freshModel(device: NativeDevice, name: string, { dtype = 'fp32', head = 'logprob', seed = 1 }: { dtype?: DType; head?: HeadKind; seed?: number } = {}): Promise<LoadedModel> {
  const config = { ...configs[name]! }
  if (head === 'scalar') config['architectures'] = [config['model_type'] === 'opt' ? 'OPTForSequenceClassification' : 'LlamaForSequenceClassification']
  const model = await LoadedModel.init(device, ConfigText.of(config), `${name}/config.json`, 'no-such-folder', seed, dtype)
  for (const [i, { unit, slot }] of model.decoder.parameterNames().entries()) {
    const { shape } = unit.slot(slot)
    if (shape.length > 1) continue
    const around = /norm\d?\.weight$/.test(slot) ? 1 : 0
    const view = unit.view(slot)
    writeFloats(view, normals(shape[0]!, 0.1, seed + 1, i).map((x) => x + around))
    view.dispose()
  }
  return model
}

/** A fixture made by transformers, or one of `configs`. */
export function anyModel(device: NativeDevice, name: string, dtype: DType = 'fp32'): Promise<LoadedModel> {
  return name in configs ? freshModel(device, name, { dtype }) : loadFixture(device, name, dtype)
}

/** Ids from 3 up: no special token among them. */
export function randomIds(random: RandomSequence, n: number, vocab: number): Int32Array {
  return Int32Array.from({ length: n }, () => 3 + random.below(vocab - 3))
}

/** Prompts of 1 to `longest` tokens, every one with its own seed. */
export function randomPrompts(count: number, longest: number, vocab: number, seed = 5): Prompt[] {
  const random = new RandomSequence(seed, 1)
  return Array.from({ length: count }, (_, i) => ({ ids: randomIds(random, 1 + random.below(longest), vocab), seed: rowSeed(seed, i) }))
}

/** Rows of 4 to 20 tokens; a random stretch of each counts. */
export function randomRows(count: number, vocab: number, seed = 6): TokenRow[] {
  const random = new RandomSequence(seed, 1)
  return Array.from({ length: count }, () => {
    const n = 4 + random.below(17)
    return { ids: randomIds(random, n, vocab), counted: new Uint8Array(n).fill(1, 1 + random.below(n - 2)) }
  })
}

/** About one token in `vocab / ends` ends an answer: rows finish early and slots are refilled. */
export function generation(vocab: number, options: Partial<GenerateOptions> = {}): GenerateOptions {
  const eosIds = Array.from({ length: Math.ceil(vocab / 12) }, (_, i) => i * 12)
  return { temperature: 1, topK: 0, topP: 1, maxNewTokens: 14, eosIds, maxBatch: 4, pageSize: 16, ...options }
}

export const trainerOptions: TrainerOptions = {
  learningRate: 1e-3,
  weightDecay: 0,
  adamBeta1: 0.9,
  adamBeta2: 0.95,
  adamEps: 1e-8,
  maxGradNorm: 1,
  lrSchedulerType: 'constant',
  numWarmupSteps: 0,
  maxSkippedSteps: 3,
}

/** Moves one weight: `by` is added to element `index` of a parameter. */
export async function nudge(decoder: Decoder, unitIndex: number, index: number, by: number): Promise<void> {
  const { params } = decoder.units[unitIndex]!
  const values = (await params.read()) as Float32Array
  values[index]! += by
  params.write(values)
}

/** The same numbers, bit by bit: NaN equals NaN, 0 does not equal -0. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  if (a.length !== b.length) return false
  const [x, y] = [a, b].map((v) => new Uint32Array(v.slice().buffer)) as [Uint32Array, Uint32Array]
  return x.every((word, i) => word === y[i])
}

/** All answers and log-probs of rollouts in one array of bits, to compare whole runs. */
export function bitsOf(rollouts: readonly Rollout[]): Int32Array {
  return Int32Array.from(rollouts.flatMap((r) => [r.answer.length, ...r.answer, ...new Int32Array(r.logprobs.slice().buffer)]))
}

/** All gradients in one array. */
export async function gradientsOf(decoder: Decoder): Promise<Float32Array> {
  const parts = await Promise.all(decoder.units.filter((u) => u.grads).map((u) => u.grads!.read() as Promise<Float32Array>))
  return Float32Array.from(parts.flatMap((p) => Array.from(p)))
}

export function zeroGradients(decoder: Decoder): void {
  decoder.trainable()
  for (const unit of decoder.units) if (unit.grads!.shape[0]! > 0) native().fill(decoder.device, { out: unit.grads!, value: 0 })
}

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0))
/** |a - b| / |b|. */
export const distance = (a: Float32Array, b: Float32Array): number => norm(a.map((x, i) => x - b[i]!)) / norm(b)
