// GPT-2 (Radford et al. 2019): LayerNorm before each half, learned positions, biases, tied head; matrices stored [in, out].
import { alike, plainSpec } from '../spec.js'
import type { DecoderSpec } from '../spec.js'
import type { Family, Stored } from './family.js'
import { transposed } from './family.js'

/** Third number `which` of q, k, v side by side. */
const third = (name: string, which: number): Stored => transposed(name, (s: DecoderSpec) => ({ from: which * s.hidden, total: 3 * s.hidden }))
const attn = 'transformer.h.{i}.attn.c_attn'

export const gpt2: Family = {
  type: 'gpt2',
  architectures: { logprob: 'GPT2LMHeadModel', scalar: 'GPT2ForSequenceClassification' },
  prefix: 'transformer.',
  spec(c) {
    const hidden = c.integer('n_embd', 768)
    const heads = c.integer('n_head', 12)
    if (hidden % heads) c.refuse('n_head', `a divisor of n_embd (${hidden})`)
    const layers = c.integer('n_layer', 12)
    const maxPositions = c.integer('n_positions', 1024)
    c.only('scale_attn_by_inverse_layer_idx', false)
    c.only('add_cross_attention', false)
    c.ignore('reorder_and_upcast_attn') // a matter of fp16 rounding: sums are fp32 here
    return {
      ...plainSpec,
      dropsEmbedding: true,
      dropsResidual: true,
      family: 'gpt2',
      vocab: c.integer('vocab_size', 50257),
      hidden,
      layers,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      ffn: c.integer('n_inner', 4 * hidden),
      norm: 'layer',
      normEps: c.number('layer_norm_epsilon', 1e-5),
      activation: c.activation('activation_function', 'gelu_new'),
      qkvBias: true,
      outBias: true,
      mlpBias: true,
      position: { kind: 'learned', rows: maxPositions, offset: 0 },
      layerKinds: alike(layers),
      attentionScale: c.flag('scale_attn_weights', true) ? (hidden / heads) ** -0.5 : 1,
      embedWidth: hidden,
      tiedHead: c.flag('tie_word_embeddings', true),
      maxPositions,
      paddingId: null,
      initStd: c.number('initializer_range', 0.02),
    }
  },
  weights: {
    'embed.tokens': 'transformer.wte',
    'embed.positions': 'transformer.wpe',
    'layers.{i}.norm1': 'transformer.h.{i}.ln_1',
    'layers.{i}.attn.q.weight': third(`${attn}.weight`, 0),
    'layers.{i}.attn.k.weight': third(`${attn}.weight`, 1),
    'layers.{i}.attn.v.weight': third(`${attn}.weight`, 2),
    'layers.{i}.attn.q.bias': third(`${attn}.bias`, 0),
    'layers.{i}.attn.k.bias': third(`${attn}.bias`, 1),
    'layers.{i}.attn.v.bias': third(`${attn}.bias`, 2),
    'layers.{i}.attn.out.weight': transposed('transformer.h.{i}.attn.c_proj.weight'),
    'layers.{i}.attn.out': 'transformer.h.{i}.attn.c_proj',
    'layers.{i}.norm2': 'transformer.h.{i}.ln_2',
    'layers.{i}.mlp.up.weight': transposed('transformer.h.{i}.mlp.c_fc.weight'),
    'layers.{i}.mlp.up': 'transformer.h.{i}.mlp.c_fc',
    'layers.{i}.mlp.down.weight': transposed('transformer.h.{i}.mlp.c_proj.weight'),
    'layers.{i}.mlp.down': 'transformer.h.{i}.mlp.c_proj',
    'head.norm': 'transformer.ln_f',
    head: 'lm_head',
    'head.value': 'score',
  },
}
