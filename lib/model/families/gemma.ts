// Gemma 2 and 3 (Gemma Team 2024, 2025), text models: norms before and behind each half with weights around 0, scaled
// embeddings, alternating windows; Gemma 2 caps its scores and logits, Gemma 3 norms query and key heads and turns its
// windowed layers by frequencies of their own.
import type { ConfigReader } from '../config.js'
import { limitOf, readRope, ropeOf } from '../rope.js'
import type { DecoderSpec } from '../spec.js'
import { plainSpec } from '../spec.js'
import type { Family } from './family.js'
import { llamaSizes, llamaWeights, windowedLayers } from './llama.js'

const gemmaWeights: Family['weights'] = {
  ...llamaWeights,
  'layers.{i}.norm1_post': 'model.layers.{i}.post_attention_layernorm',
  'layers.{i}.norm2': 'model.layers.{i}.pre_feedforward_layernorm',
  'layers.{i}.norm2_post': 'model.layers.{i}.post_feedforward_layernorm',
}

/** A cap; absent or null = off, unless the class has a default. */
function softcap(c: ConfigReader, name: string, fallback: number): number {
  return c.json[name] === null ? 0 : c.number(name, fallback)
}

/** All but the ropes; `every` = one layer in so many sees all keys. */
function gemmaLike(c: ConfigReader, every: number, caps: { scores: number; logits: number }): Omit<DecoderSpec, 'family' | 'position' | 'qkNorm'> {
  const d = { hidden: 2304, ffn: 9216, layers: 26, heads: 8, kvHeads: 4, headDim: 256, vocab: 256000, maxPositions: 8192, normEps: 1e-6, tied: true }
  const sizes = llamaSizes(c, d)
  if (c.has('use_bidirectional_attention')) c.only('use_bidirectional_attention', false)
  c.only('hidden_act', c.value('hidden_activation') ?? 'gelu_pytorch_tanh')
  const bias = c.flag('attention_bias', false)
  const window = c.integer('sliding_window', 4096)
  return {
    ...plainSpec,
    ...sizes,
    wiring: 'sandwich',
    norm: 'rms',
    normOffset: 1,
    activation: c.activation('hidden_activation', 'gelu_pytorch_tanh'),
    gated: true,
    qkvBias: bias,
    outBias: bias,
    mlpBias: false,
    layerKinds: windowedLayers(c, sizes.layers, (i) => (i + 1) % every !== 0).map((w) => (w ? { window, rope: 0 } : { window: 0, rope: 1 })),
    attentionScale: c.number('query_pre_attn_scalar', 256) ** -0.5,
    attentionSoftcap: softcap(c, 'attn_logit_softcapping', caps.scores),
    logitSoftcap: softcap(c, 'final_logit_softcapping', caps.logits),
    embedWidth: sizes.hidden,
    embedScale: Math.sqrt(sizes.hidden),
  }
}

export const gemma2: Family = {
  type: 'gemma2',
  architectures: { logprob: 'Gemma2ForCausalLM', scalar: 'Gemma2ForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    const spec = gemmaLike(c, 2, { scores: 50, logits: 30 })
    c.ignore('cache_implementation')
    const { headDim, maxPositions } = spec
    const setting = readRope(c, { headDim, maxPositions })
    const { rope } = setting
    return { ...spec, ...limitOf(maxPositions, [setting]), family: 'gemma2', qkNorm: false, position: { kind: 'rotary', ropes: [rope, rope], interleaved: false } }
  },
  weights: gemmaWeights,
}

export const gemma3: Family = {
  type: 'gemma3_text',
  architectures: { logprob: 'Gemma3ForCausalLM', scalar: 'Gemma3TextForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    const pattern = c.has('sliding_window_pattern') ? c.integer('sliding_window_pattern') : c.integer('_sliding_window_pattern', 6)
    c.ignore('_sliding_window_pattern', 'cache_implementation')
    const spec = gemmaLike(c, pattern, { scores: 0, logits: 0 })
    const { headDim, maxPositions } = spec
    const options = { headDim, maxPositions }
    // transformers 4: rope_theta and rope_scaling of the full layers, rope_local_base_freq of the windowed ones
    const old = !c.has('rope_parameters')
    const full = readRope(c, { ...options, theta: c.number('rope_theta', 1_000_000) }, 'full_attention')
    const local = c.number('rope_local_base_freq', 10000)
    const windowed = old ? ropeOf(c, 'rope_local_base_freq', {}, { ...options, theta: local }) : readRope(c, { ...options, theta: local }, 'sliding_attention')
    return { ...spec, ...limitOf(maxPositions, [full, windowed]), family: 'gemma3_text', qkNorm: true, position: { kind: 'rotary', ropes: [windowed.rope, full.rope], interleaved: false } }
  },
  weights: {
    ...gemmaWeights,
    'layers.{i}.attn.q_norm': 'model.layers.{i}.self_attn.q_norm',
    'layers.{i}.attn.k_norm': 'model.layers.{i}.self_attn.k_norm',
  },
}
