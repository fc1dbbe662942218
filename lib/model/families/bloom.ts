// BLOOM (BigScience 2022): ALiBi instead of positions, a LayerNorm of the embeddings, q, k and v of each head in one tensor.
import { alike, plainSpec } from '../spec.js'
import type { DecoderSpec } from '../spec.js'
import type { Family } from './family.js'
import { inTurns } from './family.js'

const qkv = 'transformer.h.{i}.self_attention.query_key_value'
const head = (spec: DecoderSpec): number => spec.headDim

export const bloom: Family = {
  type: 'bloom',
  architectures: { logprob: 'BloomForCausalLM', scalar: 'BloomForSequenceClassification' },
  prefix: 'transformer.',
  spec(c) {
    // the names of the first checkpoints, then transformers' own
    const either = (a: string, b: string, fallback: number): number => (c.has(a) ? c.integer(a) : c.integer(b, fallback))
    const hidden = either('n_embed', 'hidden_size', 64)
    const heads = either('n_head', 'num_attention_heads', 8)
    if (hidden % heads) c.refuse('n_head', `a divisor of hidden_size (${hidden})`)
    const layers = either('n_layer', 'num_hidden_layers', 2)
    c.ignore('hidden_size', 'num_attention_heads', 'num_hidden_layers', 'pretraining_tp', 'slow_but_exact', 'offset_alibi')
    c.only('apply_residual_connection_post_layernorm', false)
    return {
      ...plainSpec,
      dropsResidual: true,
      family: 'bloom',
      vocab: c.integer('vocab_size', 250880),
      hidden,
      layers,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      ffn: 4 * hidden,
      norm: 'layer',
      normEps: c.number('layer_norm_epsilon', 1e-5),
      activation: 'gelu_tanh',
      qkvBias: true,
      outBias: true,
      mlpBias: true,
      position: { kind: 'alibi' },
      layerKinds: alike(layers),
      attentionScale: (hidden / heads) ** -0.5,
      embedWidth: hidden,
      embedNorm: true,
      tiedHead: c.flag('tie_word_embeddings', true),
      // ALiBi knows no limit; 2048 is what BLOOM was trained on, and "seq_length" says another
      maxPositions: c.integer('seq_length', 2048),
      paddingId: null,
      initStd: c.number('initializer_range', 0.02),
    }
  },
  weights: {
    'embed.tokens': 'transformer.word_embeddings',
    'embed.norm': 'transformer.word_embeddings_layernorm',
    'layers.{i}.norm1': 'transformer.h.{i}.input_layernorm',
    ...Object.fromEntries(['q', 'k', 'v'].flatMap((part, which) => ['weight', 'bias'].map((kind) => [`layers.{i}.attn.${part}.${kind}`, inTurns(`${qkv}.${kind}`, which, 3, head)]))),
    'layers.{i}.attn.out': 'transformer.h.{i}.self_attention.dense',
    'layers.{i}.norm2': 'transformer.h.{i}.post_attention_layernorm',
    'layers.{i}.mlp.up': 'transformer.h.{i}.mlp.dense_h_to_4h',
    'layers.{i}.mlp.down': 'transformer.h.{i}.mlp.dense_4h_to_h',
    'head.norm': 'transformer.ln_f',
    head: 'lm_head',
    'head.value': 'score',
  },
}
