// GPT-Neo (Black et al. 2021): GPT-2 with matrices [out, in], attention without a scale, and layers that see a window.
import type { ConfigReader } from '../config.js'
import { plainSpec } from '../spec.js'
import type { Family } from './family.js'

/** "attention_types": [[["global", "local"], 12]] -> which layers are local. */
function localLayers(c: ConfigReader, layers: number): boolean[] {
  const types = c.value('attention_types') ?? [[['global', 'local'], layers / 2]]
  c.ignore('attention_layers') // the same, written out
  const kinds: unknown[] = []
  if (!Array.isArray(types)) return c.refuse('attention_types', 'a list')
  for (const entry of types as unknown[]) {
    const [pattern, times] = Array.isArray(entry) ? (entry as unknown[]) : []
    if (!Array.isArray(pattern) || typeof times !== 'number') return c.refuse('attention_types', 'pairs of a list and a count')
    for (let i = 0; i < times; i++) kinds.push(...(pattern as unknown[]))
  }
  if (kinds.length !== layers || !kinds.every((k) => k === 'global' || k === 'local')) return c.refuse('attention_types', `"global" or "local" for ${layers} layers`)
  return kinds.map((k) => k === 'local')
}

export const gptNeo: Family = {
  type: 'gpt_neo',
  architectures: { logprob: 'GPTNeoForCausalLM', scalar: 'GPTNeoForSequenceClassification' },
  prefix: 'transformer.',
  spec(c) {
    const hidden = c.integer('hidden_size', 2048)
    const heads = c.integer('num_heads', 16)
    if (hidden % heads) c.refuse('num_heads', `a divisor of hidden_size (${hidden})`)
    const layers = c.integer('num_layers', 24)
    const maxPositions = c.integer('max_position_embeddings', 2048)
    const window = c.integer('window_size', 256)
    return {
      ...plainSpec,
      dropsEmbedding: true,
      dropsResidual: true,
      family: 'gpt_neo',
      vocab: c.integer('vocab_size', 50257),
      hidden,
      layers,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      ffn: c.integer('intermediate_size', 4 * hidden),
      norm: 'layer',
      normEps: c.number('layer_norm_epsilon', 1e-5),
      activation: c.activation('activation_function', 'gelu_new'),
      qkvBias: false,
      outBias: true,
      mlpBias: true,
      position: { kind: 'learned', rows: maxPositions, offset: 0 },
      layerKinds: localLayers(c, layers).map((local) => ({ window: local ? window : 0, rope: 0 })),
      attentionScale: 1,
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
    'layers.{i}.attn.q': 'transformer.h.{i}.attn.attention.q_proj',
    'layers.{i}.attn.k': 'transformer.h.{i}.attn.attention.k_proj',
    'layers.{i}.attn.v': 'transformer.h.{i}.attn.attention.v_proj',
    'layers.{i}.attn.out': 'transformer.h.{i}.attn.attention.out_proj',
    'layers.{i}.norm2': 'transformer.h.{i}.ln_2',
    'layers.{i}.mlp.up': 'transformer.h.{i}.mlp.c_fc',
    'layers.{i}.mlp.down': 'transformer.h.{i}.mlp.c_proj',
    'head.norm': 'transformer.ln_f',
    head: 'lm_head',
    'head.value': 'score',
  },
}
