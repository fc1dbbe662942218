// LLaMA 1/2/3 (Touvron et al. 2023): RMSNorm, rotary positions, gated SiLU, grouped-query attention, untied head.
import type { Family } from './family.js'

export const llama: Family = {
  type: 'llama',
  architectures: { logprob: 'LlamaForCausalLM', scalar: 'LlamaForSequenceClassification' },

  spec(c) {
    const hidden = c.integer('hidden_size', 4096)
    const heads = c.integer('num_attention_heads', 32)
    if (!c.has('head_dim') && hidden % heads) c.refuse('num_attention_heads', `a divisor of hidden_size (${hidden}), or head_dim`)
    const headDim = c.integer('head_dim', hidden / heads)
    // transformers 4 keeps rope_theta beside rope_scaling; transformers 5 puts both into rope_parameters
    const rope = (c.json['rope_parameters'] ?? c.json['rope_scaling'] ?? {}) as Record<string, unknown>
    const scaling = rope['rope_type'] ?? rope['type'] ?? 'default'
    if (scaling !== 'default') c.refuse(c.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling', 'rotary positions without scaling')
    const theta = rope['rope_theta'] ?? c.number('rope_theta', 10000)
    if (typeof theta !== 'number' || !(theta > 0)) return c.refuse('rope_parameters', 'a rope_theta above 0')
    c.only('pretraining_tp', 1)
    const attentionBias = c.flag('attention_bias', false)
    return {
      family: 'llama',
      vocab: c.integer('vocab_size', 32000),
      hidden,
      layers: c.integer('num_hidden_layers', 32),
      heads,
      kvHeads: c.integer('num_key_value_heads', heads),
      headDim,
      ffn: c.integer('intermediate_size', 11008),
      norm: 'rms',
      normEps: c.number('rms_norm_eps', 1e-6),
      activation: c.activation('hidden_act', 'silu'),
      gated: true,
      qkvBias: attentionBias,
      outBias: attentionBias,
      mlpBias: c.flag('mlp_bias', false),
      finalNorm: true,
      position: { kind: 'rotary', theta },
      maxPositions: c.integer('max_position_embeddings', 2048),
      tiedHead: c.flag('tie_word_embeddings', false),
      attentionScale: headDim ** -0.5,
      paddingId: c.id('pad_token_id', null),
      initStd: c.number('initializer_range', 0.02),
    }
  },

  weights: {
    'embed.tokens.weight': 'model.embed_tokens.weight',
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
    'head.weight': 'lm_head.weight',
    'head.value': 'score.weight',
  },
}
