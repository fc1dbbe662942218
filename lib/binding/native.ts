// The typed face of the addon (native/binding). Private: users see lib/index.ts.
import { ThreefoldError } from '../base/errors.js'
import { loadAddon } from './load.js'

export type DType = 'fp32' | 'bf16' | 'fp16' | 'int32'
export type Category = 'parameters' | 'gradients' | 'optimizer' | 'activations' | 'kvCache' | 'workspace' | 'host'
export type TypedArray = Float32Array | Int32Array | Uint16Array

/** A tensor on a device. Owns memory until disposed; ops already enqueued keep what they need. */
export interface Tensor {
  readonly dtype: DType
  readonly shape: number[]
  readonly disposed: boolean
  /** Shares memory; offset in elements. */
  view(offset: number, shape: number[]): Tensor
  /** Float32Array for fp32, Int32Array for int32, Uint16Array of bits for bf16 and fp16; copied at once. */
  write(data: TypedArray): void
  /** The values after everything enqueued so far. */
  read(): Promise<TypedArray>
  dispose(): void
}

export interface MemoryStats {
  bytes: Record<Category, number>
  peak: Record<Category, number>
  total: number
  totalPeak: number
  /** Held for reuse, not in use. */
  cached: number
  /** Live allocations. */
  blocks: number
  threads: number
  /** Seconds the stream spent in ops. */
  busySeconds: number
  /** What computes: "cpu", "emulated" or the GPU's name; its instruction set or architecture; its memory, 0 = the host's. */
  name: string
  architecture: string
  memoryBytes: number
}

/** One device of a module. */
export interface DeviceFacts {
  name: string
  /** "sm_90" */
  architecture: string
  memoryBytes: number
  multiprocessors: number
}

export interface NativeDevice {
  alloc(options: { dtype: DType; shape: number[]; category: Category; zeroed?: boolean }): Tensor
  /** Settles after everything enqueued so far; rejects with the stream's sticky error. */
  sync(): Promise<void>
  stats(): MemoryStats
  resetPeaks(): void
  emptyCache(): void
  clearError(): void
  dispose(): void
}

/** Packed rows: `starts` [B + 1] cuts the tokens into sequences. */
export interface PackedRows {
  starts: Int32Array
  positions: Int32Array
  /** With a cache: page * pageSize + place, one per token. */
  slots?: Int32Array
  /** For dropout: [B] the number of each sequence within the optimizer step. */
  rowNumbers?: Int32Array
}
/** One new token per sequence. */
export interface DecodeRows {
  positions: Int32Array
  slots: Int32Array
  /** [B, maxBlocks] pages of each sequence in order, padded. */
  blockTable: Int32Array
  /** Keys to attend to, the new one included. */
  lengths: Int32Array
}
export interface NativeBatch {
  dispose(): void
}

/** A file mapped into memory, read-only. Errors: one that cannot be opened, by name. */
export interface MappedFile {
  readonly size: number
  dispose(): void
}

export type Activation = 'none' | 'relu' | 'gelu' | 'gelu_tanh' | 'silu'

/** Where the norms stand and how the halves are joined; native/blocks/layer.h has the formulas. */
export type Wiring = 'pre' | 'post' | 'parallel' | 'parallelShared' | 'sandwich'

export interface LayerNumbers {
  /** Where the norms stand; native/blocks/layer.h has the formulas. */
  wiring: Wiring
  hidden: number
  heads: number
  kvHeads: number
  headDim: number
  ffn: number
  norm: 'layer' | 'rms'
  normBias: boolean
  normEps: number
  /** Added to every norm's weight: 1 in Gemma, whose stored weights are around 0. */
  normOffset: number
  /** RMSNorm of each query and key head. */
  qkNorm: boolean
  activation: Activation
  /** act(gate) * up, as in LLaMA. */
  gated: boolean
  qkvBias: boolean
  outBias: boolean
  mlpBias: boolean
  rotary: boolean
  rotaryInterleaved: boolean
  attentionScale: number
  /** cap tanh(score / cap) of attention scores; 0 = off. */
  attentionSoftcap: number
  /** A query sees the `window` newest keys, itself included; 0 = all. */
  window: number
  alibi: boolean
}

export interface ParamSlot {
  name: string
  offset: number
  shape: number[]
  decay: boolean
}
export interface UnitLayout {
  size: number
  /** Everything before this element has weight decay, nothing after it. */
  decayEnd: number
  slots: ParamSlot[]
}

/** Shares to drop of attention's probabilities and of what each half adds to the residual. */
export interface LayerDropout {
  attention: number
  residual: number
  /** [2] of the optimizer step: the low and the high half. */
  seed: Int32Array
  /** Place in the model. */
  layer: number
}

export interface LayerCall {
  params: Tensor
  x: Tensor
  batch: NativeBatch
  rotaryTable?: Tensor | null
  keys?: Tensor | null
  values?: Tensor | null
  dropout?: LayerDropout | null
}
export interface NativeLayer {
  layout(): UnitLayout
  forward(device: NativeDevice, call: LayerCall & { save: boolean }): { out: Tensor; saved: Tensor | null }
  backward(
    device: NativeDevice,
    call: LayerCall & { grads: Tensor | null; saved: Tensor; dout: Tensor },
  ): Tensor
  activationBytes(dtype: DType, tokens: number): number
}

interface LogprobCall {
  hidden: Tensor
  weight: Tensor
  bias?: Tensor | null
  /** 0 = off. */
  softcap?: number
  rows: Int32Array
  targets: Int32Array
  invTemperature?: number
}

export interface Native {
  /** kind cpu (the default), or cuda and emulated with the path of their module. */
  Device: new (options: { threads?: number; kind?: string; index?: number; module?: string }) => NativeDevice
  /** What a module can open. Errors: no driver, one too old, no GPU. */
  backendDevices(module: string): DeviceFacts[]
  Layer: new (numbers: LayerNumbers) => NativeLayer
  Batch: new (device: NativeDevice, rows: PackedRows | DecodeRows) => NativeBatch
  MappedFile: new (path: string) => MappedFile
  cpuInfo(): { available: string[]; isa: string; cores: number }
  /** Makes the errors that the addon throws and rejects with. */
  setErrorMaker(make: (where: string, expected: string, received: string, cure: string) => Error): void

  matmul(
    device: NativeDevice,
    o: {
      a: Tensor
      b: Tensor
      bias?: Tensor | null
      residual?: Tensor | null
      transA?: boolean
      transB?: boolean
      dtype?: DType
      activation?: Activation
    },
  ): Tensor
  /**
   * Fills `out` [R, C] from bytes [begin, end) of a mapped file: element (r, c) is number offset + floor(r / block) *
   * blockStride + (r % block) * rowStride + c * columnStride of them. `bad` [1], made with a negative number in it, gets
   * the place r * C + c of the first number that is not finite.
   */
  unpack(
    device: NativeDevice,
    o: {
      file: MappedFile
      begin: number
      end: number
      stored: 'F64' | 'F32' | 'BF16' | 'F16'
      offset: number
      block: number
      blockStride: number
      rowStride: number
      columnStride: number
      out: Tensor
      bad: Tensor
    },
  ): void
  /** out (fp32) += op(a) op(b): for gradients. */
  matmulAdd(device: NativeDevice, o: { a: Tensor; b: Tensor; out: Tensor; transA?: boolean; transB?: boolean }): void
  embedding(
    device: NativeDevice,
    o: { ids: Int32Array; table: Tensor; scale?: number; positions?: Int32Array; positionTable?: Tensor | null; positionOffset?: number },
  ): Tensor
  embeddingBackward(
    device: NativeDevice,
    o: {
      ids: Int32Array
      scale?: number
      positions?: Int32Array
      positionOffset?: number
      /** The row of this id gets no gradient; -1 = none. */
      frozenId?: number
      dout: Tensor
      dtable: Tensor
      dpositionTable?: Tensor | null
    },
  ): void
  norm(
    device: NativeDevice,
    o: { kind: 'layer' | 'rms'; eps: number; weightOffset?: number; x: Tensor; weight: Tensor; bias?: Tensor | null },
  ): { out: Tensor; mean: Tensor; rstd: Tensor }
  normBackward(
    device: NativeDevice,
    o: {
      kind: 'layer' | 'rms'
      weightOffset?: number
      x: Tensor
      weight: Tensor
      mean: Tensor
      rstd: Tensor
      dout: Tensor
      dweight?: Tensor | null
      dbias?: Tensor | null
    },
  ): Tensor
  gatherRows(device: NativeDevice, o: { x: Tensor; rows: Int32Array }): Tensor
  fill(device: NativeDevice, o: { out: Tensor; value: number }): void
  cast(device: NativeDevice, o: { in: Tensor; out: Tensor }): void
  add(device: NativeDevice, o: { a: Tensor; b: Tensor; out: Tensor }): void
  /** x with a share p of its elements 0 and the others divided by 1 - p: of the embeddings, and of their gradient. */
  dropout(device: NativeDevice, o: { x: Tensor; batch: NativeBatch; p: number; seed: Int32Array }): Tensor
  /** average -= (average - value) (1 - decay), fp32. */
  ema(device: NativeDevice, o: { average: Tensor; value: Tensor; decay: number }): void

  logprobs(
    device: NativeDevice,
    o: LogprobCall & { entropy?: boolean },
  ): { logprobs: Tensor; lse: Tensor; entropy: Tensor | null }
  logprobsBackward(
    device: NativeDevice,
    o: LogprobCall & {
      lse: Tensor
      entropy?: Tensor | null
      dlogprobs: Tensor
      dentropy?: Tensor | null
      dweight?: Tensor | null
      dbias?: Tensor | null
    },
  ): Tensor
  values(device: NativeDevice, o: { hidden: Tensor; weight: Tensor; rows: Int32Array }): Tensor
  valuesBackward(
    device: NativeDevice,
    o: { hidden: Tensor; weight: Tensor; rows: Int32Array; dvalues: Tensor; dweight?: Tensor | null },
  ): Tensor
  sample(
    device: NativeDevice,
    o: {
      logits: Tensor
      softcap?: number
      invTemperature: Float32Array
      topK: Int32Array
      topP: Float32Array
      minP?: Float32Array | null
      /** Edits of single logits before the draw: those of row b are [editStarts[b], editStarts[b + 1]). */
      editStarts?: Int32Array | null
      editIds?: Int32Array | null
      /** [E, 3]: bias, repetition penalty (1 = none), presence penalty. */
      edits?: Float32Array | null
      seeds: Int32Array
      positions: Int32Array
    },
  ): { tokens: Tensor; logprobs: Tensor }

  gradientControl(device: NativeDevice, o: { grads: Tensor[]; clip?: number; scale?: number }): Tensor
  adamw(
    device: NativeDevice,
    o: {
      param: Tensor
      master: Tensor
      grad: Tensor
      m: Tensor
      v: Tensor
      control: Tensor
      lr: number
      beta1: number
      beta2: number
      eps: number
      weightDecay: number
      step: number
    },
  ): void
}

let loaded: Native | undefined

/** The addon, loaded on first use so that `--help` needs no binary. */
export function native(): Native {
  if (!loaded) {
    loaded = loadAddon() as Native
    loaded.setErrorMaker((where, expected, received, cure) => new ThreefoldError(where, expected, received, cure))
  }
  return loaded
}
