// GPT-J (Wang and Komatsuzaki 2021): attention and MLP side by side behind one LayerNorm, rotary positions of a part of
// each head in pairs (2i, 2i + 1), a head with a bias. CodeGen (Nijkamp et al. 2022): the same numbers, q, v and k in one
// tensor, cut into four parts as its training was.
import type { ConfigReader } from '../config.js'
import { ropeOf } from '../rope.js'
import { alike, plainSpec } from '../spec.js'
import type { DecoderSpec } from '../spec.js'
import type { Family } from './family.js'
import { inTurns } from './family.js'

function gptjLike(c: ConfigReader, family: string): DecoderSpec {
  const hidden = c.integer('n_embd', 4096)
  const heads = c.integer('n_head', 16)
  if (hidden % heads) c.refuse('n_head', `a divisor of n_embd (${hidden})`)
  const headDim = hidden / heads
  const layers = c.integer('n_layer', 28)
  const maxPositions = c.integer('n_positions', 2048)
  const rotaryDim = c.integer('rotary_dim', 64)
  if (rotaryDim > headDim || rotaryDim % 2) c.refuse('rotary_dim', `an even number up to the head size ${headDim}`)
  const { rope } = ropeOf(c, 'rotary_dim', {}, { headDim: rotaryDim, maxPositions, theta: 10000 })
  c.ignore('rotary', 'scale_attn_weights') // true in old files: rotary positions, scaled scores
  return {
    ...plainSpec,
    dropsEmbedding: true,
    dropsResidual: true,
    family,
    vocab: c.integer('vocab_size', 50400),
    hidden,
    layers,
    heads,
    kvHeads: heads,
    headDim,
    ffn: c.integer('n_inner', 4 * hidden),
    wiring: 'parallelShared',
    norm: 'layer',
    normEps: c.number('layer_norm_epsilon', 1e-5),
    activation: c.activation('activation_function', 'gelu_new'),
    qkvBias: false,
    outBias: false,
    mlpBias: true,
    position: { kind: 'rotary', ropes: [rope], interleaved: true },
    layerKinds: alike(layers),
    attentionScale: headDim ** -0.5,
    embedWidth: hidden,
    tiedHead: c.flag('tie_word_embeddings', false),
    headBias: true,
    maxPositions,
    paddingId: null,
    initStd: c.number('initializer_range', 0.02),
  }
}

const shared: Family['weights'] = {
  'embed.tokens': 'transformer.wte',
  'layers.{i}.norm1': 'transformer.h.{i}.ln_1',
  'layers.{i}.attn.out': 'transformer.h.{i}.attn.out_proj',
  'layers.{i}.mlp.up': 'transformer.h.{i}.mlp.fc_in',
  'layers.{i}.mlp.down': 'transformer.h.{i}.mlp.fc_out',
  'head.norm': 'transformer.ln_f',
  head: 'lm_head',
  'head.value': 'score',
}

export const gptj: Family = {
  type: 'gptj',
  architectures: { logprob: 'GPTJForCausalLM', scalar: 'GPTJForSequenceClassification' },
  prefix: 'transformer.',
  spec: (c) => gptjLike(c, 'gptj'),
  weights: {
    ...shared,
    'layers.{i}.attn.q': 'transformer.h.{i}.attn.q_proj',
    'layers.{i}.attn.k': 'transformer.h.{i}.attn.k_proj',
    'layers.{i}.attn.v': 'transformer.h.{i}.attn.v_proj',
  },
}

const qkv = 'transformer.h.{i}.attn.qkv_proj.weight'
const quarter = (spec: DecoderSpec): number => spec.hidden / 4

export const codegen: Family = {
  type: 'codegen',
  architectures: { logprob: 'CodeGenForCausalLM', scalar: 'CodeGenForSequenceClassification' },
  prefix: 'transformer.',
  spec(c) {
    const spec = gptjLike(c, 'codegen')
    if (spec.heads % 4) c.refuse('n_head', 'a multiple of 4')
    return spec
  },
  weights: {
    ...shared,
    'layers.{i}.attn.q.weight': inTurns(qkv, 0, 3, quarter),
    'layers.{i}.attn.v.weight': inTurns(qkv, 1, 3, quarter),
    'layers.{i}.attn.k.weight': inTurns(qkv, 2, 3, quarter),
  },
}
