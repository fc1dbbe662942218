// A model is numbers. A family (model/families) turns a config.json into a DecoderSpec and names its weights.
import type { LayerNumbers } from '../binding/native.js'

/** Rotary positions of R elements of each head: pair i of position p turns by p * frequencies[i]. */
export interface Rope {
  /** [R / 2] */
  frequencies: readonly number[]
  /** Multiplies cosines and sines (YaRN, LongRoPE); 1 elsewhere. */
  attentionFactor: number
}

/** What follows from the rest of a spec, or from a layer's place. */
type Derived = 'normBias' | 'rotary' | 'rotaryInterleaved' | 'window' | 'alibi'

export interface DecoderSpec extends Omit<LayerNumbers, Derived> {
  /** model_type in config.json, e.g. "opt". */
  family: string
  vocab: number
  layers: number
  /** A norm after the last layer. */
  finalNorm: boolean
  position:
    /** A table of `rows` rows; position p reads row p + offset. */
    | { kind: 'learned'; rows: number; offset: number }
    /** Pairs (2i, 2i + 1) when interleaved, else (i, i + R / 2). A layer turns by one of the ropes. */
    | { kind: 'rotary'; ropes: readonly Rope[]; interleaved: boolean }
    | { kind: 'alibi' }
  /** [layers] How many of the newest keys a layer's queries see (0 = all), and which of the ropes it turns by. */
  layerKinds: readonly { window: number; rope: number }[]
  /** Width E of the token embeddings and of the head's input; projected from and to `hidden` where it is another. */
  embedWidth: number
  /** Multiplies token embeddings. */
  embedScale: number
  /** LayerNorm of the embeddings. */
  embedNorm: boolean
  /** The output projection is the token embedding. */
  tiedHead: boolean
  headBias: boolean
  /** cap tanh(logit / cap) of the logits; 0 = off. */
  logitSoftcap: number
  /** Longest sequence the model can take. */
  maxPositions: number
  /** Why longer ones are refused, where config.json allows more. */
  positionLimit?: string
  /** The embedding of this id gets no gradient, as padding_idx in PyTorch (its use as an output still does). */
  paddingId: number | null
  /** Where transformers drops besides attention's probabilities: the embeddings, and what each half of a layer adds to the residual. */
  dropsEmbedding: boolean
  dropsResidual: boolean
  /** Standard deviation of fresh weights. */
  initStd: number
}

/** What most families do not use; a family spreads it and says what differs. */
export const plainSpec = {
  wiring: 'pre',
  normOffset: 0,
  qkNorm: false,
  gated: false,
  finalNorm: true,
  attentionSoftcap: 0,
  embedScale: 1,
  embedNorm: false,
  headBias: false,
  logitSoftcap: 0,
  dropsEmbedding: false,
  dropsResidual: false,
} as const satisfies Partial<DecoderSpec>

/** All layers alike: every key seen, or the newest `window` ones. */
export function alike(layers: number, window = 0): DecoderSpec['layerKinds'] {
  return Array.from({ length: layers }, () => ({ window, rope: 0 }))
}

/** What one layer needs to know, for the native plan. */
export function layerNumbers(spec: DecoderSpec, layer: number): LayerNumbers {
  const { position } = spec
  return {
    ...spec,
    normBias: spec.norm === 'layer',
    rotary: position.kind === 'rotary',
    rotaryInterleaved: position.kind === 'rotary' && position.interleaved,
    window: spec.layerKinds[layer]!.window,
    alibi: position.kind === 'alibi',
  }
}

/** The scalar head of reward models and critics, or the log-prob head of actors and references. */
export type HeadKind = 'logprob' | 'scalar'
