// Phi-3 (Abdin et al. 2024): LLaMA with q, k and v in one tensor, gate and up in another, and LongRoPE in its long versions.
import { limitOf, readRope } from '../rope.js'
import type { DecoderSpec } from '../spec.js'
import { alike } from '../spec.js'
import type { Family } from './family.js'
import { rowsOf } from './family.js'
import { llamaLike, llamaSizes, llamaWeights } from './llama.js'

const heads = (spec: DecoderSpec): { q: number; kv: number; total: number } => {
  const [q, kv] = [spec.heads * spec.headDim, spec.kvHeads * spec.headDim]
  return { q, kv, total: q + 2 * kv }
}
const qkv = 'model.layers.{i}.self_attn.qkv_proj.weight'
const gateUp = 'model.layers.{i}.mlp.gate_up_proj.weight'

export const phi3: Family = {
  type: 'phi3',
  architectures: { logprob: 'Phi3ForCausalLM', scalar: 'Phi3ForSequenceClassification' },
  prefix: 'model.',
  spec(c) {
    const d = { hidden: 3072, ffn: 8192, layers: 32, heads: 32, vocab: 32064, maxPositions: 4096, normEps: 1e-5 }
    const { headDim, maxPositions } = llamaSizes(c, d)
    c.ignore('original_max_position_embeddings', 'full_attn_mod', 'interpolate_factor')
    c.only('lm_head_bias', false)
    c.only('mlp_bias', false)
    c.only('attention_bias', false)
    const rope = readRope(c, { headDim, maxPositions, partial: c.number('partial_rotary_factor', 1) })
    const spec = llamaLike(c, 'phi3', d, { qkv: false, out: false, mlp: false }, rope)
    const window = c.has('sliding_window') ? c.integer('sliding_window') : 0
    return { ...spec, dropsResidual: true, ...limitOf(maxPositions, [rope]), paddingId: c.id('pad_token_id', 32000), layerKinds: alike(spec.layers, window) }
  },
  weights: {
    ...llamaWeights,
    'layers.{i}.attn.q.weight': rowsOf(qkv, (s) => ({ from: 0, total: heads(s).total })),
    'layers.{i}.attn.k.weight': rowsOf(qkv, (s) => ({ from: heads(s).q, total: heads(s).total })),
    'layers.{i}.attn.v.weight': rowsOf(qkv, (s) => ({ from: heads(s).q + heads(s).kv, total: heads(s).total })),
    'layers.{i}.mlp.gate.weight': rowsOf(gateUp, (s) => ({ from: 0, total: 2 * s.ffn })),
    'layers.{i}.mlp.up.weight': rowsOf(gateUp, (s) => ({ from: s.ffn, total: 2 * s.ffn })),
  },
}
