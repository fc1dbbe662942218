// How tokens are drawn, and the one call that draws them.
import { fail } from '../base/errors.js'
import { native } from '../binding/native.js'
import type { Decoder } from '../model/decoder.js'
import { projection } from '../model/heads.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'

export interface SamplingOptions {
  /** 0 = greedy. */
  temperature: number
  /** Keep the k likeliest tokens; 0 = off. */
  topK: number
  /** Keep the likeliest tokens up to this probability; 1 = off. */
  topP: number
}

/** Refuses numbers that make no sense. */
export function checkSampling({ temperature, topK, topP }: SamplingOptions): void {
  if (!(temperature >= 0 && Number.isFinite(temperature))) fail('sampling', 'a temperature of 0 or more', String(temperature), '1')
  if (!Number.isInteger(topK) || topK < 0) fail('sampling', 'a top-k of 0 or more', String(topK), '0 to keep all tokens')
  if (!(topP > 0 && topP <= 1)) fail('sampling', 'a top-p above 0 and at most 1', String(topP), '1 to keep all tokens')
}

/** One row to draw for. */
export interface Draw {
  seed: bigint
  /** Index of the drawn token in its sequence: with the seed it decides the random number. */
  position: number
}

/** Draws one token per row of hidden [B, H]; log-probs are before any cut. The caller disposes the results. */
export function sampleTokens(model: Decoder, hidden: Tensor, draws: readonly Draw[], options: SamplingOptions): { tokens: Tensor; logprobs: Tensor } {
  using scope = new Scope()
  const n = draws.length
  const { weight, bias, softcap } = projection(model, scope)
  const logits = scope.own(native().matmul(model.device, { a: hidden, b: weight, bias, dtype: 'fp32' }))
  const seeds = new Int32Array(2 * n)
  for (const [i, { seed }] of draws.entries()) {
    seeds[2 * i] = Number(BigInt.asIntN(32, seed))
    seeds[2 * i + 1] = Number(BigInt.asIntN(32, seed >> 32n))
  }
  return native().sample(model.device, {
    logits,
    softcap,
    invTemperature: new Float32Array(n).fill(options.temperature === 0 ? 0 : 1 / options.temperature),
    topK: new Int32Array(n).fill(options.topK),
    topP: new Float32Array(n).fill(options.topP),
    seeds,
    positions: Int32Array.from(draws, (d) => d.position),
  })
}
