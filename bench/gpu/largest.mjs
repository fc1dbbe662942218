// One PPO step of a 13B-shaped actor and reference in bf16 with 350M-shaped critic and reward model, weights made up, as far
// as the device's memory goes: rollouts, experience and the critic's step with as many of the 40 layers as fit beside each
// other (all, in 80 GB), then the actor's step, whose optimizer takes 18 bytes a parameter, with as many as fit alone.
// Prints one line of JSON.
//   node bench/gpu/largest.mjs [--device cuda] [--scale full|quick]
import { flags, library, stop } from './library.mjs'
import { peaks, randomDecoder, scales, specOf, watchPeaks } from './models.mjs'
import { gather, release, trainerOf, update } from './ppoStep.mjs'

const { createDevice } = await library('tensor/device.js')
const { planMemory } = await library('stages/memory.js')

const { device: kind, scale: scaleName } = flags('largest', { device: 'cuda', scale: 'full' })
const scale = scales[scaleName]
const [large, small] = scaleName === 'full' ? ['opt-13b', 'opt-350m'] : ['quick', 'quick-critic']

const device = createDevice({ device: kind })
const whole = specOf(large)
const critic = specOf(small)
const memory = device.stats().memoryBytes || Infinity // 0: the host's, which has no limit of its own
const room = 0.87 * memory // the allocator rounds a layer of 13B up by 7 %; the driver and CUDA's code take some

const tokens = scale.ppoMicro * (scale.prompt + scale.answer)
const cache = { pages: scale.ppoRows * Math.ceil((scale.prompt + scale.answer) / 16), pageSize: 16 }
/** Bytes of a prefill or a scoring forward: a few times the widest activation. */
const passing = (spec, rows) => rows * (6 * spec.hidden + 2 * spec.ffn) * 2

/** The most layers whose plan fits. Error: not even one. */
function fitting(bytesOf) {
  for (let layers = whole.layers; layers > 0; layers--) if (bytesOf(specOf(large, layers)) <= room) return layers
  return stop('largest', `room for one layer of ${large}`, `${memory} bytes of memory`, 'a larger device')
}

const plan = (models, work) => planMemory(models.map(([spec, head, trained = false]) => ({ spec, head, trained })), 'bf16', work).total
const judges = [[critic, 'scalar'], [critic, 'scalar']]
const trainBytes = (spec) => plan([[spec, 'logprob', true], ...judges], { tokens })
/** The larger of two times: while the cache lives, and while the critic learns. */
const rollBytes = (spec) => {
  const speaking = [[spec, 'logprob'], [spec, 'logprob']]
  return Math.max(plan([...speaking, ...judges], { tokens: 0, cache }) + passing(spec, scale.ppoRows * scale.prompt), plan([...speaking, [critic, 'scalar', true], judges[1]], { tokens }))
}

const result = { model: large, critic: small, memoryBytes: device.stats().memoryBytes, layers: whole.layers }

const rollLayers = fitting(rollBytes)
const spec = specOf(large, rollLayers)
const judging = { critic: randomDecoder(device, critic, 'bf16', 'scalar', 3), reward: randomDecoder(device, critic, 'bf16', 'scalar', 4) }
const speaking = { actor: randomDecoder(device, spec, 'bf16'), reference: randomDecoder(device, spec, 'bf16', 'logprob', 2) }
await watchPeaks(device)
const { experience, ...seconds } = await gather(device, { ...speaking, ...judging }, scale)
const trainer = trainerOf(judging.critic)
const criticStep = await update(device, trainer, 'critic', experience, scale)
release(trainer)
result.rollout = { layers: rollLayers, parameters: speaking.actor.parameterCount, rows: scale.ppoRows, tokensPerRow: scale.prompt + scale.answer, ...seconds, critic: criticStep, peakBytes: peaks(device) }
for (const model of Object.values(speaking)) model.dispose()

// The actor of fewer layers learns from what it has sampled itself: the log-probs of another model would be another's.
const trainLayers = fitting(trainBytes)
const actor = randomDecoder(device, specOf(large, trainLayers), 'bf16')
const own = await gather(device, { actor, reference: actor, ...judging }, { ...scale, ppoRows: scale.ppoMicro })
await watchPeaks(device)
const actorTrainer = trainerOf(actor)
const actorStep = await update(device, actorTrainer, 'actor', own.experience, scale)
result.actor = { layers: trainLayers, parameters: actor.parameterCount, rows: own.experience.length, ...actorStep, peakBytes: peaks(device) }
console.log(JSON.stringify(result))
device.dispose()
