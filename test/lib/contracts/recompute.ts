// Contract 1 in one function: sample, then recompute the log-probs of the same tokens in other packings.
import { RandomSequence, seededShuffle } from '../../../lib/base/random.js'
import { makeRollouts, packRollouts } from '../../../lib/engine/experience.js'
import type { Prompt, Rollout } from '../../../lib/engine/experience.js'
import { scoreLogprobs, trainLogprobs } from '../../../lib/engine/logprobs.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import type { GenerateOptions } from '../../../lib/rollout/generate.js'
import { sameBits } from './support.js'

export type Packing = { order: Int32Array; sizes: number[] }

/** All rows at once, each alone, reversed in threes, and two shuffled orders cut at random. */
export function packings(n: number): Packing[] {
  const inOrder = Int32Array.from({ length: n }, (_, i) => i)
  const cut = (size: number): number[] => Array.from({ length: Math.ceil(n / size) }, (_, i) => Math.min(size, n - i * size))
  const random = new RandomSequence(11, 1)
  const anyCut = (): number[] => {
    const sizes: number[] = []
    for (let left = n; left > 0; left -= sizes.at(-1)!) sizes.push(Math.min(left, 1 + random.below(5)))
    return sizes
  }
  return [
    { order: inOrder, sizes: [n] },
    { order: inOrder, sizes: cut(1) },
    { order: inOrder.slice().reverse(), sizes: cut(3) },
    { order: seededShuffle(n, 1, 1), sizes: anyCut() },
    { order: seededShuffle(n, 2, 1), sizes: anyCut() },
  ]
}

/** Rows whose recomputed log-probs differ in any bit from the recorded ones. */
export async function differingRows(decoder: Decoder, rollouts: readonly Rollout[], temperature: number, { order, sizes }: Packing): Promise<number> {
  let differing = 0
  let at = 0
  for (const size of sizes) {
    const part = Array.from(order.slice(at, (at += size)), (i) => rollouts[i]!)
    const flat = await scoreLogprobs(decoder, packRollouts(part), temperature)
    let row = 0
    for (const { logprobs } of part) if (!sameBits(logprobs, flat.slice(row, (row += logprobs.length)))) differing++
  }
  return differing
}

/** The same through the training forward, which keeps activations for backward. */
export async function differingInTraining(decoder: Decoder, rollouts: readonly Rollout[], temperature: number): Promise<boolean> {
  let recomputed = new Float32Array(0)
  await trainLogprobs(
    decoder,
    packRollouts(rollouts),
    (logprobs) => {
      recomputed = logprobs.slice()
      return { loss: 0, grad: new Float32Array(logprobs.length) }
    },
    { temperature, entropy: true },
  )
  return !sameBits(Float32Array.from(rollouts.flatMap((r) => Array.from(r.logprobs))), recomputed)
}

/** Samples and recomputes once; the number of rows that differ in any packing, and the rollouts. */
export async function sampleAndRecompute(decoder: Decoder, prompts: readonly Prompt[], options: GenerateOptions): Promise<{ rollouts: Rollout[]; differing: number }> {
  const rollouts = await makeRollouts(decoder, prompts, options)
  let differing = 0
  for (const packing of packings(prompts.length)) differing += await differingRows(decoder, rollouts, options.temperature, packing)
  return { rollouts, differing }
}
