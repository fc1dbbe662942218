// A model is numbers. A family (model/families) turns a config.json into a DecoderSpec and names its weights.
import type { Activation, LayerNumbers } from '../binding/native.js'

export interface DecoderSpec {
  /** model_type in config.json, e.g. "opt". */
  family: string
  vocab: number
  hidden: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  ffn: number
  norm: 'layer' | 'rms'
  normEps: number
  activation: Activation
  /** act(gate) * up, as in LLaMA. */
  gated: boolean
  qkvBias: boolean
  outBias: boolean
  mlpBias: boolean
  /** A norm after the last layer. */
  finalNorm: boolean
  position:
    /** A table of `rows` rows; position p reads row p + offset. */
    | { kind: 'learned'; rows: number; offset: number }
    | { kind: 'rotary'; theta: number }
  /** Longest sequence the model was made for. */
  maxPositions: number
  /** The output projection is the token embedding. */
  tiedHead: boolean
  attentionScale: number
  /** The embedding of this id gets no gradient, as padding_idx in PyTorch (its use as an output still does). */
  paddingId: number | null
  /** Standard deviation of fresh weights. */
  initStd: number
}

/** What one layer needs to know, for the native plan. */
export function layerNumbers(spec: DecoderSpec): LayerNumbers {
  return {
    hidden: spec.hidden,
    heads: spec.heads,
    kvHeads: spec.kvHeads,
    headDim: spec.headDim,
    ffn: spec.ffn,
    norm: spec.norm,
    normBias: spec.norm === 'layer',
    normEps: spec.normEps,
    activation: spec.activation,
    gated: spec.gated,
    qkvBias: spec.qkvBias,
    outBias: spec.outBias,
    mlpBias: spec.mlpBias,
    rotary: spec.position.kind === 'rotary',
    attentionScale: spec.attentionScale,
  }
}

/** The scalar head of reward models and critics, or the log-prob head of actors and references. */
export type HeadKind = 'logprob' | 'scalar'
