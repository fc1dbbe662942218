// How much memory a run will take, by category: the code that allocates runs on a device that only counts.
import type { Category, DType, NativeDevice, Tensor } from '../binding/native.js'
import { Decoder } from '../model/decoder.js'
import { familyOf } from '../model/families/registry.js'
import { Lora } from '../model/lora.js'
import type { DecoderSpec, HeadKind } from '../model/spec.js'
import { KvCache } from '../rollout/kvCache.js'
import { bytesOf, numel } from '../tensor/device.js'
import { loraOptions, modulesOf } from './openModel.js'
import type { LoraSettings } from './openModel.js'

/** Bytes. */
export interface MemoryPlan {
  parameters: number
  gradients: number
  optimizer: number
  /** An estimate for the largest micro-batch. */
  activations: number
  kvCache: number
  total: number
}

export interface PlannedModel {
  spec: DecoderSpec
  head: HeadKind
  /** False: only its parameters are held. */
  trained: boolean
  /** Of its training. */
  gradientCheckpointing?: boolean
  /** Factors train instead of the layers' matrices; dim 0 = no. */
  lora?: LoraSettings
  /** A moving average of its weights is kept. */
  averaged?: boolean
  /** Rotary positions to prepare. */
  positions?: number
}

export interface PlannedWork {
  /** Tokens of the largest micro-batch. */
  tokens: number
  /** Pages of the KV cache of the first model; none without rollouts. */
  cache?: { pages: number; pageSize: number }
}

/** A device on which every allocation is a number; no op runs on it. */
class CountingDevice {
  readonly bytes: Record<Category, number> = { parameters: 0, gradients: 0, optimizer: 0, activations: 0, kvCache: 0, workspace: 0, host: 0 }

  alloc({ dtype, shape, category }: { dtype: DType; shape: number[]; category: Category }): Tensor {
    this.bytes[category] += numel(shape) * bytesOf(dtype)
    const tensor: Tensor = { dtype, shape, disposed: false, view: () => tensor, write: () => undefined, read: () => Promise.resolve(new Float32Array(0)), dispose: () => undefined }
    return tensor
  }
}

/** What the models and one micro-batch of work take in `dtype`. */
export function planMemory(models: readonly PlannedModel[], dtype: DType, work: PlannedWork): MemoryPlan {
  const counter = new CountingDevice()
  const device = counter as unknown as NativeDevice
  let activations = 0
  const decoders = models.map(({ spec, head, positions }) => new Decoder(device, spec, dtype, head, positions))
  for (const [i, decoder] of decoders.entries()) {
    if (!models[i]!.trained) continue
    decoder.gradientCheckpointing = models[i]!.gradientCheckpointing ?? false
    const { lora } = models[i]!
    if (lora && lora.dim > 0) decoder.lora = new Lora(decoder, modulesOf(decoder, familyOf(decoder.spec.family)!, lora), loraOptions(lora, 0))
    decoder.trainable()
    // AdamW's two moments, and fp32 master weights where the weights are not fp32
    for (const { layout, dtype } of decoder.trainables) counter.bytes.optimizer += layout.size * ((dtype === 'fp32' ? 8 : 12) + (models[i]!.averaged ? 4 : 0))
    activations = Math.max(activations, activationBytes(decoder, work.tokens))
  }
  if (work.cache && decoders[0]) new KvCache(decoders[0], work.cache.pages, work.cache.pageSize)
  const { parameters, gradients, optimizer, kvCache } = counter.bytes
  return { parameters, gradients, optimizer, activations, kvCache, total: parameters + gradients + optimizer + activations + kvCache }
}

/** Parameters of a language model with these numbers. */
export function parameterCount(spec: DecoderSpec): number {
  return new Decoder(new CountingDevice() as unknown as NativeDevice, spec, 'fp32', 'logprob', 0).parameterCount
}

/** What backward keeps of T tokens: each layer's input and saved values; then the head's states and the gradient on its way. */
function activationBytes(decoder: Decoder, tokens: number): number {
  const { spec, dtype } = decoder
  const states = tokens * spec.hidden * bytesOf(dtype)
  return decoder.activationBytes(tokens) + (spec.layers + 4) * states
}
