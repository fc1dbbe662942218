// LLaMA 1/2/3 (Touvron et al. 2023): RMSNorm, rotary positions, gated SiLU, grouped-query attention; and its kin: Mistral
// (Jiang et al. 2023) with a sliding window, Qwen2 (Yang et al. 2024) with biases of q, k and v.
import type { ConfigReader } from '../config.js'
import { limitOf, readRope } from '../rope.js'
import type { RopeSetting } from '../rope.js'
import type { DecoderSpec } from '../spec.js'
import { alike, plainSpec } from '../spec.js'
import type { Family } from './family.js'

/** Defaults of a family's config class. */
interface Defaults {
  hidden: number
  ffn: number
  layers: number
  heads: number
  kvHeads?: number
  headDim?: number
  vocab: number
  maxPositions: number
  normEps: number
  tied?: boolean
}

/** Sizes that all of LLaMA's kin spell alike. */
export function llamaSizes(c: ConfigReader, d: Defaults) {
  const hidden = c.integer('hidden_size', d.hidden)
  const heads = c.integer('num_attention_heads', d.heads)
  if (d.headDim === undefined && !c.has('head_dim') && hidden % heads) c.refuse('num_attention_heads', `a divisor of hidden_size (${hidden}), or head_dim`)
  const kvHeads = c.integer('num_key_value_heads', d.kvHeads ?? heads)
  if (heads % kvHeads) c.refuse('num_key_value_heads', `a divisor of num_attention_heads (${heads})`)
  return {
    hidden,
    heads,
    kvHeads,
    headDim: c.integer('head_dim', d.headDim ?? hidden / heads),
    layers: c.integer('num_hidden_layers', d.layers),
    vocab: c.integer('vocab_size', d.vocab),
    ffn: c.integer('intermediate_size', d.ffn),
    maxPositions: c.integer('max_position_embeddings', d.maxPositions),
    normEps: c.number('rms_norm_eps', d.normEps),
    tiedHead: c.flag('tie_word_embeddings', d.tied ?? false),
    paddingId: c.id('pad_token_id', null),
    initStd: c.number('initializer_range', 0.02),
  }
}

/** RMSNorm before each half, gated MLP, rotary positions. */
export function llamaLike(c: ConfigReader, family: string, d: Defaults, biases: { qkv: boolean; out: boolean; mlp: boolean }, rope?: RopeSetting): DecoderSpec {
  const sizes = llamaSizes(c, d)
  const { headDim, maxPositions, hidden, layers } = sizes
  const setting = rope ?? readRope(c, { headDim, maxPositions })
  return {
    ...plainSpec,
    ...sizes,
    ...limitOf(maxPositions, [setting]),
    family,
    norm: 'rms',
    activation: c.activation('hidden_act', 'silu'),
    gated: true,
    qkvBias: biases.qkv,
    outBias: biases.out,
    mlpBias: biases.mlp,
    position: { kind: 'rotary', ropes: [setting.rope], interleaved: false },
    layerKinds: alike(layers),
    attentionScale: headDim ** -0.5,
    embedWidth: hidden,
  }
}

/** "layer_types", or what the older fields mean: which layers see only a window. */
export function windowedLayers(c: ConfigReader, layers: number, isWindowed: (layer: number) => boolean): boolean[] {
  const types = c.value('layer_types')
  if (types === undefined) return Array.from({ length: layers }, (_, i) => isWindowed(i))
  const known = ['full_attention', 'sliding_attention']
  if (!Array.isArray(types) || types.length !== layers || !types.every((t) => known.includes(t as string))) return c.refuse('layer_types', `${layers} of ${known.join(', ')}`)
  return types.map((t) => t === 'sliding_attention')
}

export const llamaWeights: Family['weights'] = {
  'embed.tokens': 'model.embed_tokens',
  'layers.{i}.norm1': 'model.layers.{i}.input_layernorm',
  'layers.{i}.attn.q': 'model.layers.{i}.self_attn.q_proj',
  'layers.{i}.attn.k': 'model.layers.{i}.self_attn.k_proj',
  'layers.{i}.attn.v': 'model.layers.{i}.self_attn.v_proj',
  'layers.{i}.attn.out': 'model.layers.{i}.self_attn.o_proj',
  'layers.{i}.norm2': 'model.layers.{i}.post_attention_layernorm',
  'layers.{i}.mlp.gate': 'model.layers.{i}.mlp.gate_proj',
  'layers.{i}.mlp.up': 'model.layers.{i}.mlp.up_proj',
  'layers.{i}.mlp.down': 'model.layers.{i}.mlp.down_proj',
  'head.norm': 'model.norm',
  head: 'lm_head',
  'head.value': 'score',
}

export const llama: Family = {
  type: 'llama',
  architectures: { logprob: 'LlamaForCausalLM', scalar: 'LlamaForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    c.ignore('pretraining_tp') // cuts matmuls, and changes no number
    c.only('rope_interleaved', false)
    const bias = c.flag('attention_bias', false)
    const d = { hidden: 4096, ffn: 11008, layers: 32, heads: 32, vocab: 32000, maxPositions: 2048, normEps: 1e-6 }
    return llamaLike(c, 'llama', d, { qkv: bias, out: bias, mlp: c.flag('mlp_bias', false) })
  },
  weights: llamaWeights,
}

export const mistral: Family = {
  type: 'mistral',
  architectures: { logprob: 'MistralForCausalLM', scalar: 'MistralForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    const d = { hidden: 4096, ffn: 14336, layers: 32, heads: 32, kvHeads: 8, vocab: 32000, maxPositions: 131072, normEps: 1e-6 }
    const spec = llamaLike(c, 'mistral', d, { qkv: false, out: false, mlp: false })
    const window = c.json['sliding_window'] === null ? 0 : c.integer('sliding_window', 4096)
    return { ...spec, layerKinds: alike(spec.layers, window) }
  },
  weights: llamaWeights,
}
