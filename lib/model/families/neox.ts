// GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): LayerNorm, rotary positions of a part of each head,
// attention and MLP side by side (or one behind the other), q, k and v of each head in one tensor.
import { limitOf, readRope } from '../rope.js'
import { alike, plainSpec } from '../spec.js'
import type { DecoderSpec } from '../spec.js'
import type { Family } from './family.js'
import { inTurns } from './family.js'

const qkv = 'gpt_neox.layers.{i}.attention.query_key_value'
const head = (spec: DecoderSpec): number => spec.headDim

export const neox: Family = {
  type: 'gpt_neox',
  architectures: { logprob: 'GPTNeoXForCausalLM', scalar: 'GPTNeoXForSequenceClassification' },
  prefix: 'gpt_neox.',
  spec(c) {
    const hidden = c.integer('hidden_size', 6144)
    const heads = c.integer('num_attention_heads', 64)
    if (hidden % heads) c.refuse('num_attention_heads', `a divisor of hidden_size (${hidden})`)
    const headDim = hidden / heads
    const layers = c.integer('num_hidden_layers', 44)
    const maxPositions = c.integer('max_position_embeddings', 2048)
    const bias = c.flag('attention_bias', true)
    const setting = readRope(c, { headDim, maxPositions, theta: c.number('rotary_emb_base', 10000), partial: c.number('rotary_pct', 0.25) })
    return {
      ...plainSpec,
      dropsEmbedding: true,
      dropsResidual: true,
      ...limitOf(maxPositions, [setting]),
      family: 'gpt_neox',
      vocab: c.integer('vocab_size', 50432),
      hidden,
      layers,
      heads,
      kvHeads: heads,
      headDim,
      ffn: c.integer('intermediate_size', 24576),
      wiring: c.flag('use_parallel_residual', true) ? 'parallel' : 'pre',
      norm: 'layer',
      normEps: c.number('layer_norm_eps', 1e-5),
      activation: c.activation('hidden_act', 'gelu'),
      qkvBias: bias,
      outBias: bias,
      mlpBias: true,
      position: { kind: 'rotary', ropes: [setting.rope], interleaved: false },
      layerKinds: alike(layers),
      attentionScale: headDim ** -0.5,
      embedWidth: hidden,
      tiedHead: c.flag('tie_word_embeddings', false),
      paddingId: null,
      initStd: c.number('initializer_range', 0.02),
    }
  },
  weights: {
    'embed.tokens': 'gpt_neox.embed_in',
    'layers.{i}.norm1': 'gpt_neox.layers.{i}.input_layernorm',
    ...Object.fromEntries(['q', 'k', 'v'].flatMap((part, which) => ['weight', 'bias'].map((kind) => [`layers.{i}.attn.${part}.${kind}`, inTurns(`${qkv}.${kind}`, which, 3, head)]))),
    'layers.{i}.attn.out': 'gpt_neox.layers.{i}.attention.dense',
    'layers.{i}.norm2': 'gpt_neox.layers.{i}.post_attention_layernorm',
    'layers.{i}.mlp.up': 'gpt_neox.layers.{i}.mlp.dense_h_to_4h',
    'layers.{i}.mlp.down': 'gpt_neox.layers.{i}.mlp.dense_4h_to_h',
    'head.norm': 'gpt_neox.final_layer_norm',
    head: 'embed_out',
    'head.value': 'score',
  },
}
