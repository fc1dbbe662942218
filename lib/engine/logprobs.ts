// Log-probs of the counted tokens of packed rows: for training (with backward) and for scoring (without).
import type { PackedBatch } from '../data/packing.js'
import type { Decoder } from '../model/decoder.js'
import { Logprobs, Values } from '../model/heads.js'
import { readFloats } from '../tensor/device.js'
import { Tape } from '../tensor/tape.js'

/** The tokens that the counted positions predict. */
function countedTargets(batch: PackedBatch): { rows: Int32Array; targets: Int32Array } {
  return { rows: batch.countedPositions, targets: batch.countedPositions.map((t) => batch.targets[t]!) }
}

/** Log-probs [M] of the counted targets, in order of position. */
export async function scoreLogprobs(decoder: Decoder, batch: PackedBatch, temperature = 1): Promise<Float32Array> {
  using out = Logprobs.forward(decoder, decoder.forward(batch, null), countedTargets(batch), { temperature })
  return readFloats(out.logprobs)
}

/** What a loss gives: its value, d loss / d logprobs (and d entropy). */
export interface LogprobLoss {
  loss: number
  grad: ArrayLike<number>
  /** Needs entropy: true. */
  gradEntropy?: ArrayLike<number>
}

/**
 * Forward with a tape, the loss on log-probs [M], backward. The loss may be a function of the log-probs (read back
 * first) or a gradient known beforehand, which needs no wait.
 */
export async function trainLogprobs<L extends LogprobLoss>(
  decoder: Decoder,
  batch: PackedBatch,
  lossOf: (logprobs: Float32Array, entropy: Float32Array | null) => L,
  { temperature = 1, entropy = false } = {},
): Promise<L> {
  using tape = new Tape()
  using out = Logprobs.forward(decoder, decoder.forward(batch, tape), countedTargets(batch), { temperature, entropy })
  const result = lossOf(await readFloats(out.logprobs), out.entropy && (await readFloats(out.entropy)))
  out.backward(tape, Float32Array.from(result.grad), result.gradEntropy ? Float32Array.from(result.gradEntropy) : null)
  return result
}

/** As trainLogprobs with a gradient that does not depend on the log-probs: everything is enqueued before the read. */
export async function trainLogprobsLinear(decoder: Decoder, batch: PackedBatch, grad: Float32Array): Promise<Float32Array> {
  using tape = new Tape()
  using out = Logprobs.forward(decoder, decoder.forward(batch, tape), countedTargets(batch))
  const logprobs = readFloats(out.logprobs)
  out.backward(tape, grad)
  return logprobs
}

/** Scalars at `rows` [R] of a packed batch. */
export async function scoreValues(decoder: Decoder, batch: PackedBatch, rows: Int32Array): Promise<Float32Array> {
  using out = Values.forward(decoder, decoder.forward(batch, null), rows)
  return readFloats(out.values)
}

/** Forward with a tape, the loss on values [R], backward. */
export async function trainValues<L extends LogprobLoss>(decoder: Decoder, batch: PackedBatch, rows: Int32Array, lossOf: (values: Float32Array) => L): Promise<L> {
  using tape = new Tape()
  using out = Values.forward(decoder, decoder.forward(batch, tape), rows)
  const result = lossOf(await readFloats(out.values))
  out.backward(tape, Float32Array.from(result.grad))
  return result
}

/** The last token of each sequence of a packed batch: where a reward model's score stands. */
export function lastTokens(batch: PackedBatch): Int32Array {
  return batch.starts.slice(1).map((s) => s - 1)
}
