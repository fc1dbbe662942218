// OPT (Zhang et al. 2022): learned positions with an offset of 2, biases, ReLU, tied head. LayerNorm stands before each
// half, or behind it in OPT-350m, whose embeddings are narrower than its layers.
import { alike, plainSpec } from '../spec.js'
import type { Family } from './family.js'

export const opt: Family = {
  type: 'opt',
  architectures: { logprob: 'OPTForCausalLM', scalar: 'OPTForSequenceClassification' },
  prefix: 'model.',

  spec(c) {
    const hidden = c.integer('hidden_size', 768)
    const heads = c.integer('num_attention_heads', 12)
    if (hidden % heads) c.refuse('num_attention_heads', `a divisor of hidden_size (${hidden})`)
    const maxPositions = c.integer('max_position_embeddings', 2048)
    const layers = c.integer('num_hidden_layers', 12)
    const bias = c.flag('enable_bias', true)
    const before = c.flag('do_layer_norm_before', true)
    c.only('layer_norm_elementwise_affine', true)
    return {
      ...plainSpec,
      dropsResidual: true,
      family: 'opt',
      vocab: c.integer('vocab_size', 50272),
      hidden,
      layers,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      ffn: c.integer('ffn_dim', 3072),
      wiring: before ? 'pre' : 'post',
      norm: 'layer',
      normEps: 1e-5,
      activation: c.activation('activation_function', 'relu'),
      qkvBias: bias,
      outBias: bias,
      mlpBias: bias,
      finalNorm: before && !c.flag('_remove_final_layer_norm', false),
      position: { kind: 'learned', rows: maxPositions + 2, offset: 2 },
      layerKinds: alike(layers),
      attentionScale: (hidden / heads) ** -0.5,
      embedWidth: c.integer('word_embed_proj_dim', hidden),
      tiedHead: c.flag('tie_word_embeddings', true),
      maxPositions,
      paddingId: c.id('pad_token_id', 1),
      initStd: c.number('init_std', 0.02),
    }
  },

  weights: {
    'embed.tokens': 'model.decoder.embed_tokens',
    'embed.positions': 'model.decoder.embed_positions',
    'embed.project': 'model.decoder.project_in',
    'layers.{i}.norm1': 'model.decoder.layers.{i}.self_attn_layer_norm',
    'layers.{i}.attn.q': 'model.decoder.layers.{i}.self_attn.q_proj',
    'layers.{i}.attn.k': 'model.decoder.layers.{i}.self_attn.k_proj',
    'layers.{i}.attn.v': 'model.decoder.layers.{i}.self_attn.v_proj',
    'layers.{i}.attn.out': 'model.decoder.layers.{i}.self_attn.out_proj',
    'layers.{i}.norm2': 'model.decoder.layers.{i}.final_layer_norm',
    'layers.{i}.mlp.up': 'model.decoder.layers.{i}.fc1',
    'layers.{i}.mlp.down': 'model.decoder.layers.{i}.fc2',
    'head.norm': 'model.decoder.final_layer_norm',
    'head.project': 'model.decoder.project_out',
    head: 'lm_head',
    'head.value': 'score',
  },
}
