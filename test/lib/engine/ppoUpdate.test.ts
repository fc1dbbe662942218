// One PPO step: before the first update the ratio is exactly 1 and nothing is clipped; afterwards the metrics move.
import test from 'ava'

import { makeRollouts, packRollouts, scoreRollouts } from '../../../lib/engine/experience.js'
import type { Experience } from '../../../lib/engine/experience.js'
import { trainLogprobs, trainLogprobsLinear } from '../../../lib/engine/logprobs.js'
import { actorStep, alignedSteps, criticStep } from '../../../lib/engine/ppoUpdate.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import { packRows } from '../../../lib/data/packing.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { createDevice } from '../device.js'
import type { NativeDevice } from '../device.js'
import { freshModel, generation, nudge, randomPrompts, randomRows, trainerOptions } from '../contracts/support.js'

const shaping = { klCoef: 0.1, klEstimator: 'k1', rewardClip: 5, gamma: 1, gaeLambda: 0.95, whitenAdvantages: false } as const
const ppo = { clipRange: 0.2, valueClipRange: 0.2, temperature: 0.9, entropyCoef: 0 }

async function setting(device: NativeDevice) {
  const actor = await freshModel(device, 'tiny')
  const reference = await freshModel(device, 'tiny', { seed: 2 })
  const critic = await freshModel(device, 'tiny', { head: 'scalar', seed: 3 })
  const models = { reference: reference.decoder, critic: critic.decoder, reward: critic.decoder }
  const rollouts = await makeRollouts(actor.decoder, randomPrompts(8, 6, 24), generation(24, { temperature: 0.9 }))
  const experience: Experience[] = await scoreRollouts(models, rollouts, 0.9, shaping)
  return { actor, critic, experience }
}

const tokens = (experience: readonly Experience[]): number => experience.reduce((n, e) => n + e.answer.length, 0)

test('the first actor step: ratio 1, nothing clipped, no gap, loss the mean of minus the advantages', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, experience } = await setting(device)
  const trainer = new Trainer(actor.decoder, trainerOptions, 4)
  let entropies: number[] = []
  await trainLogprobs(
    actor.decoder,
    packRollouts(experience),
    (lp, entropy) => {
      entropies = Array.from(entropy!)
      return { loss: 0, grad: new Float32Array(lp.length) }
    },
    { temperature: 0.9, entropy: true },
  )
  const first = await actorStep(actor.decoder, trainer, [experience.slice(0, 3), experience.slice(3)], ppo)
  t.true(Math.abs(first.ratioMean - 1) < 1e-12)
  t.is(first.ratioMax, 1)
  t.is(first.approxKl, 0)
  t.is(first.clipFraction, 0)
  t.is(first.gap, 0)
  const mean = experience.flatMap((e) => Array.from(e.advantages)).reduce((s, x) => s - x, 0) / tokens(experience)
  t.true(Math.abs(first.loss - mean) < 1e-9)
  t.true(Math.abs(first.entropy - entropies.reduce((s, x) => s + x, 0) / entropies.length) < 1e-6)
  t.true(first.entropy > 2 && first.entropy < Math.log(24))
  t.true(first.applied && first.gradNorm > 0)

  const second = await actorStep(actor.decoder, trainer, [experience], ppo)
  t.true(second.gap > 0 && second.ratioMax > 1 && second.approxKl > 0, 'the actor moved')
  t.true(second.loss < first.loss, 'and the surrogate went down')
  trainer.dispose()
})

test('ratios beyond the clip range are clipped and counted', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, experience } = await setting(device)
  for (let i = 0; i < 32; i++) await nudge(actor.decoder, 1, i * 7, 0.3)
  const trainer = new Trainer(actor.decoder, { ...trainerOptions, learningRate: 0 }, 4)
  const clipped = await actorStep(actor.decoder, trainer, [experience], { ...ppo, clipRange: 1e-3 })
  const free = await actorStep(actor.decoder, trainer, [experience], { ...ppo, clipRange: 1e6 })
  t.true(clipped.clipFraction > 0.2 && clipped.clipFraction < 0.8, `${clipped.clipFraction}`)
  t.is(free.clipFraction, 0)
  t.true(clipped.loss > free.loss, 'the clipped surrogate is the more cautious one')
  t.true(clipped.gap > 1e-3)
  trainer.dispose()
})

test('the critic step: loss is half the mean squared error, and it falls', async (t) => {
  using device = createDevice({ threads: 2 })
  const { critic, experience } = await setting(device)
  const trainer = new Trainer(critic.decoder, trainerOptions, 20)
  const first = await criticStep(critic.decoder, trainer, [experience.slice(0, 5), experience.slice(5)], ppo)
  const squares = experience.flatMap((e) => Array.from(e.values, (v, k) => (v - e.returns[k]!) ** 2)).reduce((s, x) => s + x, 0)
  t.true(Math.abs(first.loss - squares / 2 / tokens(experience)) < 1e-9)
  t.is(first.clipFraction, 0)
  let last = first
  for (let i = 0; i < 10; i++) last = await criticStep(critic.decoder, trainer, [experience], { ...ppo, valueClipRange: 100 })
  t.true(last.loss < first.loss / 2, `${first.loss} to ${last.loss}`)
  const tight = await criticStep(critic.decoder, trainer, [experience], { ...ppo, valueClipRange: 1e-4 })
  t.true(tight.clipFraction > 0, 'values that moved beyond the range are clipped')
  trainer.dispose()
})

test('the KL from the reference as a term of the loss: its weight counts, and it pulls the actor back', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, experience } = await setting(device)
  const nothingToLearn = experience.map((e) => ({ ...e, advantages: new Float64Array(e.answer.length) }))
  const trainer = new Trainer(actor.decoder, trainerOptions, 8)
  const step = (part: Experience[][] = [nothingToLearn.slice(0, 5), nothingToLearn.slice(5)]) => actorStep(actor.decoder, trainer, part, { ...ppo, klLossCoef: 0.5, klEstimator: 'k3' })
  const first = await step()
  const k3 = experience.flatMap((e) => Array.from(e.logprobs, (lp, k) => Math.exp(e.refLogprobs[k]! - lp) - 1 - (e.refLogprobs[k]! - lp))).reduce((s, x) => s + x, 0)
  t.true(Math.abs(first.klLoss! - k3 / tokens(experience)) < 1e-6 && first.klLoss! > 0.01)
  t.true(Math.abs(first.loss - 0.5 * first.klLoss!) < 1e-9)
  let last = first
  for (let i = 0; i < 6; i++) last = await step()
  t.true(last.klLoss! < first.klLoss!, `${first.klLoss} to ${last.klLoss}`)
  t.is((await actorStep(actor.decoder, trainer, [nothingToLearn], ppo)).klLoss, null)
  trainer.dispose()
})

test('the entropy bonus is part of the loss and raises the entropy', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, experience } = await setting(device)
  const nothingToLearn = experience.map((e) => ({ ...e, advantages: new Float64Array(e.answer.length) }))
  const trainer = new Trainer(actor.decoder, trainerOptions, 4)
  const step = () => actorStep(actor.decoder, trainer, [nothingToLearn.slice(0, 5), nothingToLearn.slice(5)], { ...ppo, entropyCoef: 0.5 })
  const first = await step()
  t.true(Math.abs(first.loss + 0.5 * first.entropy) < 1e-9, 'advantages of 0 leave the bonus alone')
  t.true(first.gradNorm > 0)
  const second = await step()
  t.true(second.entropy > first.entropy, `${first.entropy} -> ${second.entropy}`)
  const still = await actorStep(actor.decoder, trainer, [nothingToLearn], ppo)
  t.is(still.gradNorm, 0, 'without it there is no gradient')
  trainer.dispose()
})

test('aligned steps: both move as they do apart, and neither where the gradients of one are not finite', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, critic, experience } = await setting(device)
  const weights = async (): Promise<number[][]> => Promise.all([actor, critic].map(async (m) => Array.from((await m.decoder.layers[0]!.params.read()) as Float32Array)))
  const trainers = () => ({ actor: new Trainer(actor.decoder, trainerOptions, 4), critic: new Trainer(critic.decoder, trainerOptions, 4) })
  const bad = experience.map((e, i) => (i === 2 ? { ...e, returns: e.returns.map(() => 1e200) } : e))
  const start = await weights()
  const pair = trainers()
  const held = await alignedSteps(pair.actor, pair.critic, [bad], ppo)
  t.false(held.actor.applied || held.critic.applied)
  t.true(Number.isFinite(held.actor.gradNorm) && held.actor.gradNorm > 0, "the actor's own gradients are fine")
  t.deepEqual(await weights(), start)
  t.deepEqual([pair.actor.skipped, pair.critic.skipped], [1, 1])
  const apart = await criticStep(critic.decoder, pair.critic, [bad], ppo)
  t.false(apart.applied)
  const both = await alignedSteps(pair.actor, pair.critic, [experience.slice(0, 3), experience.slice(3)], ppo)
  t.true(both.actor.applied && both.critic.applied)
  const moved = await weights()
  for (const trainer of [pair.actor, pair.critic]) trainer.dispose()
  const again = await setting(device)
  const [a, c] = [new Trainer(again.actor.decoder, trainerOptions, 4), new Trainer(again.critic.decoder, trainerOptions, 4)]
  await criticStep(again.critic.decoder, c, [again.experience.slice(0, 3), again.experience.slice(3)], ppo)
  await actorStep(again.actor.decoder, a, [again.experience.slice(0, 3), again.experience.slice(3)], ppo)
  t.deepEqual(await Promise.all([again.actor, again.critic].map(async (m) => Array.from((await m.decoder.layers[0]!.params.read()) as Float32Array))), moved)
  a.dispose()
  c.dispose()
})

test('texts mixed in: their gradient is that of the token loss times its weight, however they are cut', async (t) => {
  using device = createDevice({ threads: 2 })
  const { actor, experience } = await setting(device)
  const { decoder } = actor
  const still = { ...trainerOptions, learningRate: 0, maxGradNorm: 0 }
  const gradients = async (): Promise<Float32Array> => Float32Array.from((await Promise.all(decoder.units.map((u) => u.grads!.read() as Promise<Float32Array>))).flatMap((g) => Array.from(g)))
  const texts = randomRows(6, 24)
  const [trainer, whole] = [new Trainer(decoder, still, 4), packRows(texts)]
  // no advantage: PPO's own loss is 0 before the first update
  const flat = experience.map((e) => ({ ...e, advantages: new Float64Array(e.answer.length) }))
  const mixed = await actorStep(decoder, trainer, [flat], { ...ppo, ptx: { batches: [texts.slice(0, 2), texts.slice(2)], coef: 3 } })
  const got = await gradients()
  const alone = await trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, whole, tokenLossGrad(whole.countedTotal, whole.countedTotal)), whole.countedTotal) }))
  const own = await gradients()
  t.true(Math.abs(mixed.ptxLoss! - alone.loss) < 1e-6 && alone.loss > 1)
  t.true(Math.abs(mixed.loss - 3 * alone.loss) < 1e-5)
  const norm = Math.sqrt(own.reduce((s, g) => s + g * g, 0))
  t.true(Math.sqrt(got.reduce((s, g, i) => s + (g - 3 * own[i]!) ** 2, 0)) < 1e-5 * 3 * norm, 'the gradients too')
  t.true(Math.abs(mixed.gradNorm - 3 * alone.gradNorm) < 1e-4 * mixed.gradNorm)
  t.is((await actorStep(decoder, trainer, [flat], ppo)).ptxLoss, null)
  trainer.dispose()
})
