// Models of real shapes with made-up weights, and the scales they are run at.
import { library } from './library.mjs'

const { Decoder } = await library('model/decoder.js')
const { normals } = await library('model/initialize.js')
const { readSpec } = await library('model/families/registry.js')
const { writeFloats } = await library('checkpoint/weights.js')
const { native } = await library('binding/native.js')
const { numel } = await library('tensor/device.js')
const { RandomSequence } = await library('base/random.js')
const { rowSeed } = await library('rollout/generate.js')

const opt = (hidden_size, num_hidden_layers, num_attention_heads, more = {}) => ({
  model_type: 'opt',
  architectures: ['OPTForCausalLM'],
  vocab_size: 50272,
  hidden_size,
  num_hidden_layers,
  num_attention_heads,
  ffn_dim: 4 * hidden_size,
  word_embed_proj_dim: hidden_size,
  max_position_embeddings: 2048,
  do_layer_norm_before: true,
  ...more,
})

/** As on the hub (facebook/opt-*); `quick` is what a device without a GPU can run in seconds. */
const shapes = {
  'opt-125m': opt(768, 12, 12),
  'opt-350m': opt(1024, 24, 16, { word_embed_proj_dim: 512, do_layer_norm_before: false }),
  'opt-1.3b': opt(2048, 24, 32),
  'opt-13b': opt(5120, 40, 40),
  quick: opt(32, 2, 2, { vocab_size: 96, max_position_embeddings: 64 }),
  'quick-critic': opt(32, 2, 2, { vocab_size: 96, max_position_embeddings: 64, word_embed_proj_dim: 16, do_layer_norm_before: false }),
}

/** tokens: rows of a training batch; prompt + answer: of rollouts. */
export const scales = {
  full: { steps: 20, sequences: 16, length: 512, prompt: 256, answer: 256, batches: [1, 32, 256], ppoRows: 32, ppoMicro: 8, matmul: 8192 },
  quick: { steps: 4, sequences: 2, length: 12, prompt: 6, answer: 6, batches: [1, 2, 4], ppoRows: 4, ppoMicro: 2, matmul: 64 },
}

export function specOf(name, layers) {
  const config = { ...shapes[name], ...(layers && { num_hidden_layers: layers }) }
  return readSpec(config, name).spec
}

/** Elements of a block that wide rows do not divide, so that no two rows of a table are alike; a multiple of 16 bytes. */
const blockSize = 8 * 131071

/**
 * A decoder whose matrices hold normal numbers of standard deviation 0.02, norms 1, biases 0. One block of a million numbers
 * is drawn and copied all over the device: the draws of 13 billion would take an hour.
 */
export function randomDecoder(device, spec, dtype, head = 'logprob', seed = 1) {
  const decoder = new Decoder(device, spec, dtype, head)
  const block = device.alloc({ dtype, shape: [blockSize], category: 'workspace' })
  writeFloats(block, normals(blockSize, 0.02, seed, 0))
  for (const { unit, slot } of decoder.parameterNames()) {
    const { name, shape, offset } = unit.slot(slot)
    const n = numel(shape)
    if (shape.length > 1) {
      spread(device, block, unit.params, offset, n)
    } else if (/norm[^.]*\.weight$/.test(name)) {
      const view = unit.view(slot)
      writeFloats(view, new Float32Array(n).fill(1))
      view.dispose()
    }
  }
  block.dispose()
  return decoder
}

/** `block` over and over in [from, from + n) of a flat tensor. */
function spread(device, block, to, from, n) {
  for (let at = 0; at < n; at += blockSize) {
    const size = Math.min(blockSize, n - at)
    const views = [block.view(0, [size]), to.view(from + at, [size])]
    native().cast(device, { in: views[0], out: views[1] })
    for (const view of views) view.dispose()
  }
}

const randomIds = (random, n, vocab) => Int32Array.from({ length: n }, () => 3 + random.below(vocab - 3))

/** Rows of `length` random tokens, all but the first of which count. */
export function randomRows(count, length, vocab) {
  const random = new RandomSequence(6, 1)
  return Array.from({ length: count }, () => ({ ids: randomIds(random, length, vocab), counted: new Uint8Array(length).fill(1, 1) }))
}

export function randomPrompts(count, length, vocab) {
  const random = new RandomSequence(5, 1)
  return Array.from({ length: count }, (_, i) => ({ ids: randomIds(random, length, vocab), seed: rowSeed(1, i) }))
}

/** Answers of exactly `answer` tokens: nothing ends one early. */
export const generation = (answer, maxBatch) => ({ temperature: 1, topK: 0, topP: 1, maxNewTokens: answer, eosIds: [], maxBatch, pageSize: 16 })

export const trainerOptions = {
  learningRate: 1e-4,
  weightDecay: 0.1,
  adamBeta1: 0.9,
  adamBeta2: 0.95,
  adamEps: 1e-8,
  maxGradNorm: 1,
  lrSchedulerType: 'constant',
  numWarmupSteps: 0,
  maxSkippedSteps: 1,
}

/**
 * Products (times 2) of training one token in a sequence of `length`: 6 for each weight of a matrix and of the tied head, and
 * those of causal attention (Chowdhery et al. 2022, appendix B, half of whose scores a causal mask leaves).
 */
export function trainingFlops(spec, length) {
  const { layers, hidden, ffn, heads, headDim, vocab, embedWidth } = spec
  const weights = layers * (4 * hidden * hidden + 2 * hidden * ffn) + vocab * embedWidth
  return 6 * weights + 6 * layers * heads * headDim * length
}

/** Seconds of `body`, all of it: what it has started on the device included. */
export async function timed(device, body) {
  await device.sync()
  const started = performance.now()
  const result = await body()
  await device.sync()
  return { result, seconds: (performance.now() - started) / 1000 }
}

/** Flops a second of a square bf16 matmul: the best of five. */
export async function matmulRate(device, size) {
  const block = device.alloc({ dtype: 'bf16', shape: [blockSize], category: 'workspace' })
  writeFloats(block, normals(blockSize, 1, 1, 1))
  const flat = device.alloc({ dtype: 'bf16', shape: [2 * size * size], category: 'workspace' })
  spread(device, block, flat, 0, 2 * size * size)
  const [a, b] = [flat.view(0, [size, size]), flat.view(size * size, [size, size])]
  let best = Infinity
  for (let i = 0; i < 6; i++) {
    const { seconds } = await timed(device, async () => native().matmul(device, { a, b }).dispose())
    if (i > 0) best = Math.min(best, seconds)
  }
  for (const t of [block, flat, a, b]) t.dispose()
  return (2 * size ** 3) / best
}

/** Peaks count from here: what was given back is gone. */
export async function watchPeaks(device) {
  await device.sync()
  device.emptyCache()
  device.resetPeaks()
}

/** Peaks of the categories that have any, in bytes. */
export function peaks(device) {
  const { peak, totalPeak } = device.stats()
  return { total: totalPeak, ...Object.fromEntries(Object.entries(peak).filter(([, bytes]) => bytes > 0)) }
}
