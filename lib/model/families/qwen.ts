// Qwen2 and 2.5 (Yang et al. 2024): LLaMA with biases of q, k and v. Qwen3 (Qwen Team 2025): without them, with RMSNorm of
// each query and key head.
import type { ConfigReader } from '../config.js'
import type { DecoderSpec } from '../spec.js'
import type { Family } from './family.js'
import { llamaLike, llamaWeights, windowedLayers } from './llama.js'

const defaults = { hidden: 4096, ffn: 22016, layers: 32, heads: 32, kvHeads: 32, vocab: 151936, maxPositions: 32768, normEps: 1e-6 }

/** The upper layers see a window, when one is in use. */
function withWindow(c: ConfigReader, spec: DecoderSpec): DecoderSpec {
  const used = c.flag('use_sliding_window', false)
  const window = used && c.has('sliding_window') ? c.integer('sliding_window') : 0
  c.ignore('sliding_window')
  const from = c.has('max_window_layers') ? c.number('max_window_layers', 28) : 28
  const windowed = windowedLayers(c, spec.layers, (i) => window > 0 && i >= from)
  if (windowed.includes(true) && window === 0) return c.refuse('sliding_window', 'a window, since layer_types has sliding_attention,')
  return { ...spec, layerKinds: windowed.map((w) => ({ window: w ? window : 0, rope: 0 })) }
}

export const qwen2: Family = {
  type: 'qwen2',
  architectures: { logprob: 'Qwen2ForCausalLM', scalar: 'Qwen2ForSequenceClassification' },
  prefix: 'model.',
  spec: (c) => withWindow(c, llamaLike(c, 'qwen2', defaults, { qkv: true, out: false, mlp: false })),
  weights: llamaWeights,
}

export const qwen3: Family = {
  type: 'qwen3',
  architectures: { logprob: 'Qwen3ForCausalLM', scalar: 'Qwen3ForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    const bias = c.flag('attention_bias', false)
    return withWindow(c, { ...llamaLike(c, 'qwen3', { ...defaults, headDim: 128 }, { qkv: bias, out: bias, mlp: false }), qkNorm: true })
  },
  weights: {
    ...llamaWeights,
    'layers.{i}.attn.q_norm': 'model.layers.{i}.self_attn.q_norm',
    'layers.{i}.attn.k_norm': 'model.layers.{i}.self_attn.k_norm',
  },
}
