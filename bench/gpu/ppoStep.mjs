// One PPO step by the library's own functions, each part timed: rollouts, experience, critic, actor.
import { library, stop } from './library.mjs'
import { generation, peaks, randomPrompts, timed, trainerOptions, watchPeaks } from './models.mjs'

const { makeRollouts, scoreRollouts, whitened } = await library('engine/experience.js')
const { actorStep, criticStep } = await library('engine/ppoUpdate.js')
const { Trainer } = await library('engine/trainer.js')
const { pieces } = await library('stages/shared.js')

const shaping = { klCoef: 0.1, klEstimator: 'k1', rewardClip: 5, gamma: 1, gaeLambda: 0.95, whitenAdvantages: true }
const ppo = { clipRange: 0.2, valueClipRange: 0.2, temperature: 1, entropyCoef: 0 }

/** An optimizer for one step. */
export const trainerOf = (decoder) => new Trainer(decoder, { ...trainerOptions, learningRate: 1e-6 }, 1)

/** Gives back what a trainer and its gradients hold. */
export function release(trainer) {
  trainer.dispose()
  for (const unit of trainer.decoder.units) {
    unit.grads?.dispose()
    unit.grads = null
  }
}

/** Rollouts and what the frozen models and the critic say of them. */
export async function gather(device, { actor, reference, critic, reward }, scale) {
  const prompts = randomPrompts(scale.ppoRows, scale.prompt, actor.spec.vocab)
  const rolled = await timed(device, () => makeRollouts(actor, prompts, generation(scale.answer, scale.ppoRows)))
  const scored = await timed(device, async () => {
    const all = []
    for (const part of pieces(rolled.result, scale.ppoMicro)) all.push(...(await scoreRollouts({ reference, critic, reward }, part, 1, shaping)))
    return whitened(all)
  })
  return { experience: scored.result, rolloutSeconds: rolled.seconds, experienceSeconds: scored.seconds }
}

/** One optimizer step of the actor or of the critic on an experience. */
export async function update(device, trainer, who, experience, scale) {
  const micro = pieces(experience, scale.ppoMicro)
  const { result, seconds } = await timed(device, () => (who === 'actor' ? actorStep : criticStep)(trainer.decoder, trainer, micro, ppo))
  const { loss, gradNorm, applied, gap } = result
  if (!applied) stop('ppo step', `a finite step of the ${who}`, `loss ${loss}, gradient norm ${gradNorm}`, 'the op tests, which say which kernel is wrong')
  if (gap) stop('ppo step', 'log-probs of the update that are those of the rollout to the bit', `a gap of ${gap}`, 'the contract tests, which cut the work in more ways')
  return { seconds, loss, gradNorm }
}

/** All of it with models and optimizers that fit together. */
export async function ppoStep(device, models, scale) {
  await watchPeaks(device)
  const trainers = { critic: trainerOf(models.critic), actor: trainerOf(models.actor) }
  const { experience, rolloutSeconds, experienceSeconds } = await gather(device, models, scale)
  const critic = await update(device, trainers.critic, 'critic', experience, scale)
  const actor = await update(device, trainers.actor, 'actor', experience, scale)
  const seconds = rolloutSeconds + experienceSeconds + critic.seconds + actor.seconds
  const report = { rows: scale.ppoRows, tokensPerRow: scale.prompt + scale.answer, seconds, rolloutSeconds, experienceSeconds, critic, actor, peakBytes: peaks(device) }
  for (const trainer of Object.values(trainers)) release(trainer)
  return report
}
