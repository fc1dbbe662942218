// LoRA against PEFT in float64 (test/oracle/adapters.py): log-probs, gradients of the factors, ten AdamW steps; and what
// merging promises: the base never drifts, rollouts and training have one form.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

import { loadAdapter, readAdapter } from '../../../lib/checkpoint/adapter.js'
import type { LoadedModel } from '../../../lib/checkpoint/model.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { logprobGap, makeRollouts, packRollouts } from '../../../lib/engine/experience.js'
import { lastTokens, scoreLogprobs, trainLogprobsLinear, trainValues } from '../../../lib/engine/logprobs.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import { Lora, chooseModules, linearModules } from '../../../lib/model/lora.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { freshModel, generation, randomPrompts, trainerOptions } from '../contracts/support.js'
import { createDevice, readFloats } from '../device.js'
import type { DType, NativeDevice } from '../device.js'
import { Oracle, loadFixture, worst } from './oracle.js'

const adapters = join(import.meta.dirname, '../../fixtures/adapters')
const cases = ['gpt2', 'llama-tiny', 'opt-tiny', 'neox'] as const

async function adapted(device: NativeDevice, name: string, dtype: DType = 'fp32'): Promise<LoadedModel> {
  const model = await loadFixture(device, name, dtype)
  await loadAdapter(model, (await readAdapter(join(adapters, name)))!, { dropout: 0, only: true, seed: 1 })
  return model
}

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0))
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => norm(Array.from(a, (x, i) => x - b[i]!))

for (const name of cases) {
  test(`${name}: an adapter's log-probs, gradients and ten steps are PEFT's`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    const file = await SafetensorsFile.open(join(adapters, name, 'oracle.safetensors'))
    const doubles = async (n: string): Promise<Float64Array> => new Float64Array((await file.read(n)).buffer)
    using model = await adapted(device, name)
    const { decoder } = model
    const lora = decoder.lora!

    const all = oracle.batch(true)
    const want = await doubles('logprobs')
    const wanted = Array.from(all.countedPositions, (p) => want[p + 1]!)
    t.true(worst(await scoreLogprobs(decoder, all), wanted) <= 2e-5, `${worst(await scoreLogprobs(decoder, all), wanted)}`)
    using plain = await loadFixture(device, name)
    t.true(worst(await scoreLogprobs(plain.decoder, all), wanted) > 0.1, 'the base alone is far off')

    decoder.trainable()
    const batch = oracle.batch()
    await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal))
    for (const module of lora.modules) {
      const { a, b } = await lora.read(module, 'gradients')
      for (const [which, got] of [['lora_A', a], ['lora_B', b]] as const) {
        const g = new Float32Array((await file.read(`grad.base_model.model.${module.name}.${which}.weight`)).buffer)
        t.true(distance(got, g) <= 1e-4 * norm(g) + 1e-6, `${module.name} ${which}: ${distance(got, g)} of ${norm(g)}`)
      }
    }

    const curve = await doubles('curve')
    const trainer = new Trainer(decoder, { ...trainerOptions, learningRate: 0, loraLearningRate: 1e-2, weightDecay: 0.1, adamBeta1: 0.9, adamBeta2: 0.95, adamEps: 1e-8, maxGradNorm: 1, lrSchedulerType: 'constant', numWarmupSteps: 0 }, 10)
    for (const [step, expected] of curve.entries()) {
      const { loss } = await trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) }))
      t.true(Math.abs(loss - expected) <= 2e-4 * expected, `step ${step}: ${loss} against ${expected}`)
    }
    trainer.dispose()
  })

  test(`${name}: merged in bf16, log-probs are as close to PEFT's as the base's are to its own`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    const file = await SafetensorsFile.open(join(adapters, name, 'oracle.safetensors'))
    using model = await adapted(device, name, 'bf16')
    const all = oracle.batch(true)
    const got = await scoreLogprobs(model.decoder, all)
    const want = new Float64Array((await file.read('logprobs')).buffer)
    const gaps = Array.from(all.countedPositions, (p, i) => Math.abs(got[i]! - want[p + 1]!))
    const [worstGap, meanGap] = await oracle.doubles('bf16_gap')
    t.true(Math.max(...gaps) <= 4 * worstGap! + 0.03, `worst ${Math.max(...gaps)} beside ${worstGap}`)
    t.true(gaps.reduce((s, x) => s + x, 0) / gaps.length <= 2 * meanGap! + 0.005)
  })
}

for (const dtype of ['fp32', 'bf16'] as const)
  test(`${dtype}: the base never drifts, and what samples is what trains`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await freshModel(device, 'tiny', { dtype })
    const { decoder } = model
    const before = await Promise.all(decoder.units.map((u) => readFloats(u.params)))
    const modules = linearModules(decoder, model.family)
    decoder.lora = new Lora(decoder, modules, { dim: 4, alpha: 8, dropout: 0.25, only: true, seed: 3 })
    decoder.lora.start()
    const trainer = new Trainer(decoder, { ...trainerOptions, learningRate: 0.1, loraLearningRate: 0.02, lrSchedulerType: 'constant', numWarmupSteps: 0 }, 100)
    const rows = randomPrompts(4, 8, 24)
    for (let step = 0; step < 5; step++) {
      const rollouts = await makeRollouts(decoder, rows, generation(24))
      const batch = packRollouts(rollouts)
      t.is(logprobGap(rollouts, await scoreLogprobs(decoder, batch)), 0, `step ${step}`)
      await trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) }))
    }
    t.is(trainer.skipped, 0)
    t.true(distance(await readFloats(decoder.layers[0]!.params), before[1]!) > 1e-3, 'it has learned')
    t.deepEqual(await readFloats(decoder.embed.params), before[0], 'the embeddings are frozen')
    t.deepEqual(await readFloats(decoder.head.params), before.at(-1), 'and so is the head')
    for (const module of modules) decoder.lora.write(module, { a: new Float32Array(4 * module.inWidth), b: null })
    decoder.lora.merge()
    t.deepEqual(await Promise.all(decoder.units.map((u) => readFloats(u.params))), before, 'without factors it is the base, bit for bit')
    trainer.dispose()
  })

test('without --only-optimize-lora the rest trains at its own rate, the matrices do not', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  using twin = await freshModel(device, 'tiny')
  const { decoder } = model
  decoder.lora = new Lora(decoder, chooseModules(linearModules(decoder, model.family), ['layers.1.'], '--lora-module-name'), { dim: 2, alpha: 2, dropout: 0, only: false, seed: 3 })
  decoder.lora.start()
  const step = async (of: LoadedModel): Promise<void> => {
    // two micro-batches: gradients add up
    const trainer = new Trainer(of.decoder, { ...trainerOptions, learningRate: 1e-2, loraLearningRate: 0, maxGradNorm: 0, lrSchedulerType: 'constant', numWarmupSteps: 0 }, 100)
    const batch = packRollouts(await makeRollouts(of.decoder, randomPrompts(3, 6, 24), generation(24)))
    await trainer.step(async () => {
      for (let i = 0; i < 2; i++) await trainLogprobsLinear(of.decoder, batch, tokenLossGrad(batch.countedTotal, 2 * batch.countedTotal))
      return { loss: 1 }
    })
    trainer.dispose()
  }
  await step(twin)
  await step(model)
  for (const [i, unit] of decoder.units.entries())
    for (const { name } of unit.layout.slots) {
      const [got, full] = await Promise.all([unit, twin.decoder.units[i]!].map(async (u) => readFloats(u.view(name))))
      const frozen = i === 2 && unit.slot(name).shape.length > 1
      if (frozen) t.true(distance(got!, full!) > 1e-3, `${unit.name}.${name} stays`)
      else t.deepEqual(got, full, `${unit.name}.${name} trains as without LoRA`)
    }
})

test('modules: by parts of their names, and an error that lists them', async (t) => {
  using device = createDevice({ threads: 1 })
  using model = await freshModel(device, 'tiny')
  const all = linearModules(model.decoder, model.family)
  t.is(all.length, 12)
  t.is(chooseModules(all, ['decoder.layers.'], '--lora-module-name').length, 12)
  t.deepEqual(chooseModules(all, ['q_proj', 'layers.1.fc'], '--lora-module-name').map((m) => m.name), ['model.decoder.layers.0.self_attn.q_proj', 'model.decoder.layers.1.self_attn.q_proj', 'model.decoder.layers.1.fc1', 'model.decoder.layers.1.fc2'])
  t.throws(() => chooseModules(all, ['query'], '--actor-lora-module-name'), {
    message: '[--actor-lora-module-name] expected parts of the names of linear modules, received "query", which is in none of them. Try one of model.decoder.layers.0.self_attn.q_proj, model.decoder.layers.0.self_attn.k_proj, model.decoder.layers.0.self_attn.v_proj, model.decoder.layers.0.self_attn.out_proj, model.decoder.layers.0.fc1, model.decoder.layers.0.fc2, or a part of several.',
  })
})

test('the fixtures name no place on the machine that made them', (t) => {
  for (const name of cases) t.is((JSON.parse(readFileSync(join(adapters, name, 'adapter_config.json'), 'utf8')) as { base_model_name_or_path: string }).base_model_name_or_path, `../../models/${name}`)
})

test('a value head trains beside the factors, the norm before it does not', async (t) => {
  using device = createDevice({ threads: 1 })
  using model = await freshModel(device, 'tiny', { head: 'scalar' })
  const { decoder } = model
  const before = await Promise.all(decoder.head.layout.slots.map(async ({ name }) => [name, await readFloats(decoder.head.view(name))] as const))
  decoder.lora = new Lora(decoder, linearModules(decoder, model.family), { dim: 2, alpha: 2, dropout: 0, only: true, seed: 3 })
  decoder.lora.start()
  const trainer = new Trainer(decoder, { ...trainerOptions, learningRate: 1e-2, lrSchedulerType: 'constant', numWarmupSteps: 0 }, 10)
  const batch = packRollouts(await makeRollouts((await freshModel(device, 'tiny')).decoder, randomPrompts(3, 6, 24), generation(24)))
  await trainer.step(async () => ({ loss: (await trainValues(decoder, batch, lastTokens(batch), (values) => ({ loss: 1, grad: new Float32Array(values.length).fill(1) }))).loss }))
  for (const [name, was] of before) {
    const is = await readFloats(decoder.head.view(name))
    if (name === 'value.weight') t.true(Array.from(is).every((x, i) => Math.abs(Math.abs(x - was[i]!) - 1e-2) < 1e-4), 'a first step of AdamW is the rate')
    else t.deepEqual(is, was, name)
  }
  trainer.dispose()
})
