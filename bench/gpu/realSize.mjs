// A model of real size with made-up weights, in bf16: training steps, rollouts, one PPO step. Prints one line of JSON.
//   node bench/gpu/realSize.mjs --model opt-125m|opt-1.3b|quick [--critic opt-125m] [--device cuda] [--scale full|quick]
import { flags, library, stop } from './library.mjs'
import { generation, matmulRate, peaks, randomDecoder, randomPrompts, randomRows, scales, specOf, timed, trainerOptions, trainingFlops, watchPeaks } from './models.mjs'
import { ppoStep, release } from './ppoStep.mjs'

const { createDevice } = await library('tensor/device.js')
const { packRows } = await library('data/packing.js')
const { trainLogprobsLinear, scoreLogprobs } = await library('engine/logprobs.js')
const { logprobGap, makeRollouts, packRollouts } = await library('engine/experience.js')
const { Trainer } = await library('engine/trainer.js')
const { tokenLoss, tokenLossGrad } = await library('rlhf/tokenLoss.js')

const { device: kind, model: name, critic: criticName, scale: scaleName } = flags('real size', { device: 'cuda', model: 'opt-125m', critic: '', scale: 'full' })
const scale = scales[scaleName]
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1]

const device = createDevice({ device: kind })
const spec = specOf(name)
const made = await timed(device, async () => randomDecoder(device, spec, 'bf16'))
const decoder = made.result
const result = { model: name, parameters: decoder.parameterCount, initSeconds: made.seconds, matmulFlops: await matmulRate(device, scale.matmul) }

/** The same batch at every step: a model that learns has it by heart a little more each time. */
async function train() {
  await watchPeaks(device)
  const batch = packRows(randomRows(scale.sequences, scale.length, spec.vocab))
  const trainer = new Trainer(decoder, trainerOptions, scale.steps)
  const losses = []
  const seconds = []
  for (let step = 0; step < scale.steps; step++) {
    const one = await timed(device, () =>
      trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) })),
    )
    losses.push(one.result.loss)
    seconds.push(one.seconds)
  }
  release(trainer)
  if (!(losses.at(-1) < losses[0])) stop('real size', 'a loss that falls over the same batch', losses.map((l) => l.toFixed(3)).join(', '), 'the op tests, which say which kernel is wrong')
  const each = median(seconds.slice(1))
  const tokens = scale.sequences * scale.length
  const flops = (trainingFlops(spec, scale.length) * tokens) / each
  return { tokensPerStep: tokens, firstSeconds: seconds[0], stepSeconds: each, tokensPerSecond: tokens / each, tflops: flops / 1e12, shareOfMatmul: flops / result.matmulFlops, losses, peakBytes: peaks(device) }
}

async function roll(batch) {
  await watchPeaks(device)
  const prompts = randomPrompts(batch, scale.prompt, spec.vocab)
  const { result: rollouts, seconds } = await timed(device, () => makeRollouts(decoder, prompts, generation(scale.answer, batch)))
  // contract 1 at this size: some rows again, through the trainer's forward
  const some = rollouts.slice(0, 4)
  const gap = logprobGap(some, await scoreLogprobs(decoder, packRollouts(some)))
  if (gap !== 0) stop('real size', 'recorded log-probs that the trainer recomputes to the bit', `a gap of ${gap} at batch ${batch}`, 'the contract tests, which cut the work in more ways')
  return { batch, seconds, tokensPerSecond: (batch * scale.answer) / seconds, secondsPerToken: seconds / scale.answer, gap, peakBytes: peaks(device) }
}

result.training = await train()
await makeRollouts(decoder, randomPrompts(1, scale.prompt, spec.vocab), generation(2, 1)) // what the first one loads is not counted
result.rollouts = []
for (const batch of scale.batches) result.rollouts.push(await roll(batch))

const criticSpec = specOf(criticName || name)
const others = { reference: randomDecoder(device, spec, 'bf16'), critic: randomDecoder(device, criticSpec, 'bf16', 'scalar', 3), reward: randomDecoder(device, criticSpec, 'bf16', 'scalar', 4) }
result.ppo = await ppoStep(device, { actor: decoder, ...others }, scale)
console.log(JSON.stringify(result))
device.dispose()
