// Contract 2: cutting a step into micro-batches, packing rows in another order and using other threads change its loss
// and gradients by float rounding only. Stated bounds: gradients 1e-5 of their norm, loss 1e-6 relative.
import test from 'ava'

import { seededShuffle } from '../../../lib/base/random.js'
import { packRows } from '../../../lib/data/packing.js'
import type { TokenRow } from '../../../lib/data/records.js'
import { makeRollouts, scoreRollouts } from '../../../lib/engine/experience.js'
import { lastTokens, trainLogprobsLinear, trainValues } from '../../../lib/engine/logprobs.js'
import { actorStep, criticStep } from '../../../lib/engine/ppoUpdate.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { createDevice } from '../device.js'
import type { DType } from '../device.js'
import { anyModel, distance, freshModel, generation, gradientsOf, randomPrompts, randomRows, sameBits, trainerOptions, zeroGradients } from './support.js'

const gradientBound = 1e-5
const lossBound = 1e-6

interface Step {
  loss: number
  gradients: Float32Array
}

/** One step's loss and gradients; `countOf` is what each micro-batch is divided by. */
async function languageStep(decoder: Decoder, parts: readonly TokenRow[][], countOf: (part: readonly TokenRow[]) => number): Promise<Step> {
  zeroGradients(decoder)
  let loss = 0
  for (const part of parts) {
    const batch = packRows(part)
    const logprobs = await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, countOf(part)))
    loss += tokenLoss(logprobs, countOf(part))
  }
  return { loss, gradients: await gradientsOf(decoder) }
}

const counted = (rows: readonly TokenRow[]): number => rows.reduce((n, r) => n + r.counted.reduce((s, c) => s + c, 0), 0)

function cut<T>(rows: readonly T[], sizes: readonly number[]): T[][] {
  let at = 0
  return sizes.map((n) => rows.slice(at, (at += n)))
}

for (const name of ['opt-odd', 'llama-odd', 'wide-opt', 'wide-llama'])
  for (const dtype of ['fp32', 'bf16', 'fp16'] as DType[])
    test(`${name} ${dtype}: loss and gradients of one batch and of its pieces agree within the bounds`, async (t) => {
      using device = createDevice({ threads: 2 })
      using model = await anyModel(device, name, dtype)
      const { decoder } = model
      const rows = randomRows(12, decoder.spec.vocab)
      const total = counted(rows)
      const whole = await languageStep(decoder, [rows], () => total)
      const shuffled = Array.from(seededShuffle(12, 3, 1), (i) => rows[i]!)
      for (const parts of [cut(rows, [6, 6]), cut(rows, [5, 1, 4, 2]), rows.map((r) => [r]), [shuffled], cut(shuffled, [4, 4, 4])]) {
        const step = await languageStep(decoder, parts, () => total)
        t.true(Math.abs(step.loss / whole.loss - 1) < lossBound, `loss ${step.loss} against ${whole.loss}`)
        t.true(distance(step.gradients, whole.gradients) < gradientBound, `${distance(step.gradients, whole.gradients)}`)
      }
      const uneven = cut(rows, [1, 11])
      const ofMeans = await languageStep(decoder, uneven, (part) => counted(part) * uneven.length)
      t.true(Math.abs(ofMeans.loss / whole.loss - 1) > 100 * lossBound, 'a mean of means gives another loss')
      t.true(distance(ofMeans.gradients, whole.gradients) > 100 * gradientBound, 'and other gradients')
    })

test('gradients are the same bits for any number of threads', async (t) => {
  for (const name of ['wide-opt', 'wide-llama']) {
    const steps: Step[] = []
    for (const threads of [1, 2, 3]) {
      using device = createDevice({ threads })
      using model = await anyModel(device, name)
      const rows = randomRows(12, model.decoder.spec.vocab)
      steps.push(await languageStep(model.decoder, [rows], () => counted(rows)))
    }
    for (const step of steps) {
      t.is(step.loss, steps[0]!.loss)
      t.true(sameBits(step.gradients, steps[0]!.gradients))
    }
    t.false(sameBits(steps[0]!.gradients.map((g, i) => (i === 7 ? g + 1e-6 : g)), steps[0]!.gradients), 'one bit is seen')
  }
})

test('pairwise loss: micro-batches of pairs add up', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny', { head: 'scalar' })
  const { decoder } = model
  const [chosen, rejected] = [randomRows(9, 24, 1), randomRows(9, 24, 2)]
  const step = async (sizes: number[]): Promise<Step> => {
    zeroGradients(decoder)
    let loss = 0
    for (const part of cut([...chosen.keys()], sizes)) {
      const batch = packRows([...part.map((i) => chosen[i]!), ...part.map((i) => rejected[i]!)])
      const result = await trainValues(decoder, batch, lastTokens(batch), (v) => {
        const p = pairwiseLoss({ chosen: v.subarray(0, part.length), rejected: v.subarray(part.length), count: 9 })
        return { loss: p.loss, grad: [...p.gradChosen, ...p.gradRejected] }
      })
      loss += result.loss
    }
    return { loss, gradients: await gradientsOf(decoder) }
  }
  const whole = await step([9])
  for (const sizes of [[4, 5], [1, 8], new Array<number>(9).fill(1)]) {
    const parts = await step(sizes)
    t.true(Math.abs(parts.loss / whole.loss - 1) < lossBound)
    t.true(distance(parts.gradients, whole.gradients) < gradientBound)
  }
  const missing = await step([8])
  t.true(distance(missing.gradients, whole.gradients) > 100 * gradientBound, 'one pair left out is seen')
})

test('PPO: actor and critic steps do not depend on the micro-batch size', async (t) => {
  using device = createDevice({ threads: 2 })
  using actor = await freshModel(device, 'tiny')
  using reference = await freshModel(device, 'tiny', { seed: 2 })
  using critic = await freshModel(device, 'tiny', { head: 'scalar', seed: 3 })
  using reward = await freshModel(device, 'tiny', { head: 'scalar', seed: 4 })
  const rollouts = await makeRollouts(actor.decoder, randomPrompts(8, 8, 24), generation(24))
  const models = { reference: reference.decoder, critic: critic.decoder, reward: reward.decoder }
  const shaping = { klCoef: 0.1, klEstimator: 'k1', rewardClip: 5, gamma: 1, gaeLambda: 0.95, whitenAdvantages: false } as const
  const experience = await scoreRollouts(models, rollouts, 1, shaping)
  const single = (await Promise.all(rollouts.map((r) => scoreRollouts(models, [r], 1, shaping)))).flat()
  t.deepEqual(single, experience, 'scoring one by one gives the same bits as scoring together')

  const ppo = { clipRange: 0.2, valueClipRange: 0.2, temperature: 1, entropyCoef: 0 }
  const still = { ...trainerOptions, learningRate: 0 }
  const step = async (sizes: number[]): Promise<{ actor: Step; critic: Step; kl: number; entropy: number }> => {
    const [a, c] = [new Trainer(actor.decoder, still, 1), new Trainer(critic.decoder, still, 1)]
    const parts = cut(experience, sizes)
    const [actorReport, criticReport] = [await actorStep(actor.decoder, a, parts, ppo), await criticStep(critic.decoder, c, parts, ppo)]
    const result = {
      actor: { loss: actorReport.loss, gradients: await gradientsOf(actor.decoder) },
      critic: { loss: criticReport.loss, gradients: await gradientsOf(critic.decoder) },
      kl: actorReport.approxKl,
      entropy: actorReport.entropy,
    }
    t.is(actorReport.gap, 0)
    a.dispose()
    c.dispose()
    return result
  }
  const whole = await step([8])
  for (const sizes of [[3, 5], [1, 7], new Array<number>(8).fill(1)]) {
    const parts = await step(sizes)
    for (const who of ['actor', 'critic'] as const) {
      t.true(Math.abs(parts[who].loss / whole[who].loss - 1) < lossBound, who)
      t.true(distance(parts[who].gradients, whole[who].gradients) < gradientBound, who)
    }
    t.true(Math.abs(parts.entropy / whole.entropy - 1) < lossBound)
  }
  const missing = await step([7])
  t.true(distance(missing.actor.gradients, whole.actor.gradients) > 100 * gradientBound)
})
