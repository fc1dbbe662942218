// Sanity of learning: the engine as a whole does what its losses ask for, and stops when the numbers break.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { makeRollouts, scoreRollouts, whitened } from '../../../lib/engine/experience.js'
import type { Experience, Prompt } from '../../../lib/engine/experience.js'
import { lastTokens, scoreValues, trainLogprobsLinear, trainValues } from '../../../lib/engine/logprobs.js'
import { actorStep, criticStep } from '../../../lib/engine/ppoUpdate.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { gae } from '../../../lib/rlhf/gae.js'
import { shapedRewards } from '../../../lib/rlhf/rewards.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { rowSeed } from '../../../lib/rollout/generate.js'
import { createDevice } from '../device.js'
import type { DType } from '../device.js'
import { freshModel, generation, nudge, randomPrompts, randomRows, trainerOptions } from '../contracts/support.js'

const vocab = 24

function languageStep(decoder: Decoder, trainer: Trainer, batch: ReturnType<typeof packRows>) {
  return trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) }))
}

for (const dtype of ['fp32', 'bf16'] as DType[])
  test(`${dtype}: one batch overfits to near-zero loss`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await freshModel(device, 'tiny', { dtype })
    const trainer = new Trainer(model.decoder, { ...trainerOptions, learningRate: 1e-2 }, 200)
    const batch = packRows(randomRows(8, vocab))
    const losses: number[] = []
    for (let step = 0; step < 150; step++) losses.push((await languageStep(model.decoder, trainer, batch)).loss)
    t.true(losses[0]! > 2.5, `starts near ln 24: ${losses[0]}`)
    t.true(losses.at(-1)! < 0.02, `ends near zero: ${losses.at(-1)}`)
    trainer.dispose()
  })

test('pairs overfit: every chosen answer ends above its rejected one', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny', { head: 'scalar' })
  const trainer = new Trainer(model.decoder, { ...trainerOptions, learningRate: 3e-3 }, 100)
  const n = 12
  const batch = packRows([...randomRows(n, vocab, 1), ...randomRows(n, vocab, 2)])
  const margins = async (): Promise<number[]> => {
    const v = await scoreValues(model.decoder, batch, lastTokens(batch))
    return Array.from({ length: n }, (_, i) => v[i]! - v[n + i]!)
  }
  t.false((await margins()).every((m) => m > 0))
  let loss = Infinity
  for (let step = 0; step < 80; step++) {
    const report = await trainer.step(() =>
      trainValues(model.decoder, batch, lastTokens(batch), (v) => {
        const p = pairwiseLoss({ chosen: v.subarray(0, n), rejected: v.subarray(n), count: n })
        return { loss: p.loss, grad: [...p.gradChosen, ...p.gradRejected] }
      }),
    )
    loss = report.loss
  }
  t.true(loss < 0.05, `${loss}`)
  t.true((await margins()).every((m) => m > 0))
  trainer.dispose()
})

/** PPO with a score that counts one token: `sign` 1 wants it, -1 avoids it. The share of it in the first and last answers. */
async function countOneToken(sign: 1 | -1): Promise<{ first: number; last: number; kl: number; gap: number }> {
  using device = createDevice({ threads: 2 })
  using actor = await freshModel(device, 'tiny')
  using reference = await freshModel(device, 'tiny')
  using critic = await freshModel(device, 'tiny', { head: 'scalar' })
  const models = { reference: reference.decoder, critic: critic.decoder, reward: critic.decoder }
  const options = { ...trainerOptions, learningRate: 3e-3 }
  const [actorTrainer, criticTrainer] = [new Trainer(actor.decoder, options, 200), new Trainer(critic.decoder, options, 200)]
  const shaping = { klCoef: 0.02, klEstimator: 'k1', rewardClip: 0, gamma: 1, gaeLambda: 0.95, whitenAdvantages: true } as const
  const ppo = { clipRange: 0.2, valueClipRange: 10, temperature: 1, entropyCoef: 0 }
  const wanted = 7
  const countOf = (answer: Int32Array): number => answer.reduce((n, id) => n + (id === wanted ? 1 : 0), 0)
  const scored = (e: Experience): Experience => {
    const score = sign * countOf(e.answer)
    const rewards = shapedRewards({ logprobs: e.logprobs, refLogprobs: e.refLogprobs, score, klCoef: shaping.klCoef, rewardClip: 0 })
    return { ...e, score, ...gae({ rewards, values: e.values, gamma: shaping.gamma, lambda: shaping.gaeLambda }) }
  }
  const shares: number[] = []
  let gap = 0
  let kl = 0
  for (let round = 0; round < 30; round++) {
    const prompts: Prompt[] = randomPrompts(24, 5, vocab).map((p, i) => ({ ...p, seed: rowSeed(1, round * 100 + i) }))
    const rollouts = await makeRollouts(actor.decoder, prompts, generation(vocab, { maxNewTokens: 8, maxBatch: 24, eosIds: [] }))
    const experience = whitened((await scoreRollouts(models, rollouts, 1, shaping)).map(scored))
    shares.push(rollouts.reduce((s, r) => s + countOf(r.answer), 0) / (24 * 8))
    kl = experience.reduce((s, e) => s + e.kl, 0) / experience.length
    for (let epoch = 0; epoch < 2; epoch++) {
      await criticStep(critic.decoder, criticTrainer, [experience], ppo)
      const report = await actorStep(actor.decoder, actorTrainer, [experience.slice(0, 12), experience.slice(12)], ppo)
      if (epoch === 0) gap = Math.max(gap, report.gap)
    }
  }
  actorTrainer.dispose()
  criticTrainer.dispose()
  return { first: shares[0]!, last: shares.at(-1)!, kl, gap }
}

test('PPO learns a reward that counts one token', async (t) => {
  const { first, last, kl, gap } = await countOneToken(1)
  t.true(first < 0.15, `before: ${first}`)
  t.true(last > 0.8, `after: ${last}`)
  t.true(kl > 1, `the actor left the reference: KL ${kl}`)
  t.is(gap, 0, 'the first mini-batch recomputes what was recorded')
})

test('PPO with the opposite reward does not', async (t) => {
  const { last } = await countOneToken(-1)
  t.true(last < 0.02, `${last}`)
})

test('a gradient that is not finite skips the step, is counted, and ends the run after the limit', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const { decoder } = model
  const trainer = new Trainer(decoder, { ...trainerOptions, maxSkippedSteps: 3 }, 50)
  const batch = packRows(randomRows(4, vocab))
  const good = await languageStep(decoder, trainer, batch)
  t.true(good.applied && good.gradNorm > 0)

  const healthy = (await decoder.layers[0]!.params.read()) as Float32Array
  const embedding = (await decoder.embed.params.read()) as Float32Array
  await nudge(decoder, 1, 5, NaN)
  for (let i = 1; i <= 2; i++) {
    const skipped = await languageStep(decoder, trainer, batch)
    t.false(skipped.applied)
    t.is(trainer.skipped, i)
  }
  t.deepEqual((await decoder.embed.params.read()) as Float32Array, embedding, 'nothing moved')
  t.is(trainer.optimizer.step, 1, 'the schedule counts applied steps')

  decoder.layers[0]!.params.write(healthy)
  t.true((await languageStep(decoder, trainer, batch)).applied, 'the count in a row starts over')
  await nudge(decoder, 1, 5, Infinity)
  await languageStep(decoder, trainer, batch)
  await languageStep(decoder, trainer, batch)
  await t.throwsAsync(languageStep(decoder, trainer, batch), {
    message: /^\[training\] expected a finite loss and gradient, received loss (NaN|-?Infinity), gradient norm NaN, 3 steps in a row\. Try a lower learning rate/,
  })
  t.is(trainer.skipped, 5)
  trainer.dispose()
})

test('a finite loss with a gradient that is not finite is skipped too', async (t) => {
  using device = createDevice({ threads: 2 })
  for (const dtype of ['fp32', 'bf16'] as DType[]) {
    using model = await freshModel(device, 'tiny', { dtype })
    const trainer = new Trainer(model.decoder, trainerOptions, 50)
    const batch = packRows(randomRows(4, vocab))
    await languageStep(model.decoder, trainer, batch)
    const before = await model.decoder.embed.params.read()
    const grad = tokenLossGrad(batch.countedTotal, batch.countedTotal)
    grad[1] = Infinity
    const report = await trainer.step(async () => {
      await trainLogprobsLinear(model.decoder, batch, grad)
      return { loss: 1 }
    })
    t.false(report.applied)
    t.false(Number.isFinite(report.gradNorm))
    t.deepEqual(await model.decoder.embed.params.read(), before, 'weights are as they were')
    t.true((await languageStep(model.decoder, trainer, batch)).applied, 'and the optimizer state too: the next step is sound')
    trainer.dispose()
  }
})

test('a learning rate far too high ends in the same error, not in a crash', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const trainer = new Trainer(model.decoder, { ...trainerOptions, learningRate: 1e38, maxSkippedSteps: 2 }, 50)
  const batch = packRows(randomRows(4, vocab))
  await t.throwsAsync(
    async () => {
      for (let step = 0; step < 40; step++) await languageStep(model.decoder, trainer, batch)
    },
    { message: /\[training\] expected a finite loss and gradient.*2 steps in a row/ },
  )
  trainer.dispose()
})
