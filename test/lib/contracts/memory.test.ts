// Contract 5: every byte has an owner. What a scope made is gone when it ends, also when it ended with an error.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { packRows } from '../../../lib/data/packing.js'
import { makeRollouts, scoreRollouts } from '../../../lib/engine/experience.js'
import { lastTokens, scoreLogprobs, scoreValues, trainLogprobs, trainLogprobsLinear, trainValues } from '../../../lib/engine/logprobs.js'
import { actorStep } from '../../../lib/engine/ppoUpdate.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { generate, generateAll } from '../../../lib/rollout/generate.js'
import { createDevice, fromFloats } from '../device.js'
import type { DType, NativeDevice } from '../device.js'
import { native } from '../../../lib/binding/native.js'
import { modelFolder } from '../model/oracle.js'
import { anyModel, freshModel, generation, randomPrompts, randomRows, trainerOptions } from './support.js'

/** Bytes and blocks in use once everything enqueued has run. */
async function inUse(device: NativeDevice): Promise<{ total: number; blocks: number }> {
  // an op's own handles go when the next one starts, so what was awaited last is gone after one more wait
  await device.sync().catch(() => undefined)
  await device.sync().catch(() => undefined)
  const { total, blocks } = device.stats()
  return { total, blocks }
}

async function leaves(t: ExecutionContext, device: NativeDevice, what: string, body: () => Promise<unknown>): Promise<void> {
  const before = await inUse(device)
  await body()
  t.deepEqual(await inUse(device), before, what)
}

const batchOf = (n: number, vocab: number) => packRows(randomRows(n, vocab))

function languageStep(decoder: Decoder, trainer: Trainer, n = 6) {
  const batch = batchOf(n, decoder.spec.vocab)
  return trainer.step(async () => ({ loss: tokenLoss(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal) }))
}

test('one leaked byte is seen', async (t) => {
  using device = createDevice({ threads: 1 })
  const before = await inUse(device)
  const byte = device.alloc({ dtype: 'bf16', shape: [1], category: 'activations', zeroed: true })
  await byte.read()
  t.deepEqual(await inUse(device), { total: before.total + 2, blocks: before.blocks + 1 }, 'the smallest tensor there is counts')
  t.is(device.stats().bytes.activations, 2)
  byte.dispose()
  t.deepEqual(await inUse(device), before)
  t.is(device.stats().totalPeak, 2)
})

for (const name of ['opt-odd', 'llama-odd'])
  for (const dtype of ['fp32', 'bf16', 'fp16'] as DType[])
    test(`${name} ${dtype}: a model and all that is done with it leave nothing`, async (t) => {
      using device = createDevice({ threads: 2 })
      await leaves(t, device, 'load, train, generate, score, save', async () => {
        const folder = await mkdtemp(join(tmpdir(), 'threefold-'))
        using model = await anyModel(device, name, dtype)
        const { decoder } = model
        const { vocab } = decoder.spec
        await leaves(t, device, 'score', async () => scoreLogprobs(decoder, batchOf(5, vocab)))
        await leaves(t, device, 'generate', async () => generateAll(decoder, randomPrompts(7, 10, vocab), generation(vocab, { maxBatch: 3, pageSize: 4 })))
        await leaves(t, device, 'save', async () => model.save(join(folder, 'model')))
        await leaves(t, device, 'load again', async () => (await LoadedModel.load(device, join(folder, 'model'), { dtype })).dispose())
        decoder.trainable()
        for (const unit of decoder.units) await unit.grads!.read() // gradients belong to the model; memory comes with the first use
        await leaves(t, device, 'trainer and steps', async () => {
          const trainer = new Trainer(decoder, trainerOptions, 10, { p: 0.1, seed: 1 })
          await languageStep(decoder, trainer)
          await leaves(t, device, 'one step', () => languageStep(decoder, trainer))
          await leaves(t, device, 'a step whose loss sees the log-probs', async () =>
            trainLogprobs(decoder, batchOf(4, vocab), (lp) => ({ loss: 0, grad: new Float32Array(lp.length).fill(1) }), { entropy: true }),
          )
          trainer.dispose()
        })
        await rm(folder, { recursive: true })
      })
    })

test('a scalar model and a PPO step leave nothing', async (t) => {
  using device = createDevice({ threads: 2 })
  await leaves(t, device, 'four models', async () => {
    using actor = await freshModel(device, 'tiny')
    using reference = await freshModel(device, 'tiny')
    using critic = await freshModel(device, 'tiny', { head: 'scalar' })
    const models = { reference: reference.decoder, critic: critic.decoder, reward: critic.decoder }
    const shaping = { klCoef: 0.1, klEstimator: 'k1', rewardClip: 5, gamma: 1, gaeLambda: 0.95, whitenAdvantages: false } as const
    const trainer = new Trainer(actor.decoder, trainerOptions, 10)
    await languageStep(actor.decoder, trainer) // memory comes with the first use
    critic.decoder.trainable()
    for (const unit of critic.decoder.units) await unit.grads!.read()
    await leaves(t, device, 'rollouts, scores, updates', async () => {
      const rollouts = await makeRollouts(actor.decoder, randomPrompts(6, 8, 24), generation(24))
      const experience = await scoreRollouts(models, rollouts, 1, shaping)
      await actorStep(actor.decoder, trainer, [experience], { clipRange: 0.2, valueClipRange: 0.2, temperature: 1, entropyCoef: 0 })
      const batch = batchOf(4, 24)
      await trainValues(critic.decoder, batch, lastTokens(batch), (v) => ({ loss: 0, grad: new Float32Array(v.length).fill(1) }))
    })
    trainer.dispose()
  })
})

/** A LLaMA that prepared rotary positions for 8 tokens only. */
async function shortRotary(device: NativeDevice): Promise<Decoder & Disposable> {
  const { decoder } = await LoadedModel.load(device, modelFolder('llama-tiny'), { dtype: 'fp32', positions: 8 })
  await scoreLogprobs(decoder, packRows([{ ids: Int32Array.of(3, 4), counted: Uint8Array.of(0, 1) }]))
  return Object.assign(decoder, { [Symbol.dispose]: () => decoder.dispose() })
}

/** The weights of opt-tiny under a config.json with one more token. */
async function loadMismatched(device: NativeDevice): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'threefold-'))
  try {
    await cp(modelFolder('opt-tiny'), folder, { recursive: true })
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, vocab_size: 98 }))
    await LoadedModel.load(device, folder, { dtype: 'fp32' })
  } finally {
    await rm(folder, { recursive: true })
  }
}

test('errors in the middle leave nothing', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  using critic = await freshModel(device, 'tiny', { head: 'scalar' })
  const { decoder } = model
  const { vocab } = decoder.spec
  for (const each of [decoder, critic.decoder]) {
    each.trainable()
    for (const unit of each.units) if (unit.layout.size > 0) await unit.grads!.read()
  }
  const fails = (what: string, message: RegExp, body: () => Promise<unknown>) =>
    leaves(t, device, what, async () => {
      const error = (await t.throwsAsync(body, { any: true }, what)) as Error
      t.regex(error.message, message, what)
    })
  const boom = (): never => {
    throw new Error('boom')
  }
  const batch = batchOf(4, vocab)
  await fails('a loss that throws', /boom/, () => trainLogprobs(decoder, batch, boom))
  await fails('a value loss that throws', /boom/, () => trainValues(critic.decoder, batch, lastTokens(batch), boom))
  await fails('a gradient of the wrong length', /dlogprobs/, () => trainLogprobs(decoder, batch, () => ({ loss: 0, grad: [1] })))
  await fails('a value gradient of the wrong length', /dvalues/, () => trainValues(critic.decoder, batch, lastTokens(batch), () => ({ loss: 0, grad: [1] })))
  await fails('a token id out of range', /token ids from 0 to 23/, () => scoreLogprobs(decoder, { ...batch, ids: batch.ids.map(() => 24) }))
  await fails('a target out of range', /token ids from 0 to 23/, () => scoreLogprobs(decoder, { ...batch, targets: batch.targets.map(() => 24) }))
  await fails('a target out of range in training', /token ids from 0 to 23/, () => trainLogprobs(decoder, { ...batch, targets: batch.targets.map(() => 24) }, boom))
  await fails('rows that are not there', /rows/, () => scoreValues(critic.decoder, batch, Int32Array.of(10_000)))
  await fails('positions beyond the model', /at most 64 tokens/, () => scoreLogprobs(decoder, { ...batch, positions: batch.positions.map(() => 64) }))
  using short = await shortRotary(device)
  await fails('positions beyond the rotary table', /layer.forward.*positions below 8/, () => scoreLogprobs(short, batch))
  await fails('the same in training', /layer.forward.*positions below 8/, () => trainLogprobs(short, batch, boom))
  await fails('starts that do not fit', /starts/, () => scoreLogprobs(decoder, { ...batch, starts: Int32Array.of(0, 1) }))
  await fails('the wrong head', /language-model head/, () => scoreLogprobs(critic.decoder, batch))
  await fails('the other wrong head', /scalar head/, () => scoreValues(decoder, batch, lastTokens(batch)))
  await fails('a stopped generation', /abort/, () => generateAll(decoder, randomPrompts(5, 8, vocab), generation(vocab, { signal: AbortSignal.abort() })))
  await fails('a stop function that throws', /boom/, () => generateAll(decoder, randomPrompts(5, 8, vocab), generation(vocab, { stop: boom })))
  await fails('a model whose weights do not fit', /misshapen .*embed_tokens/, () => loadMismatched(device))
  const trainer = new Trainer(decoder, trainerOptions, 5)
  await languageStep(decoder, trainer)
  await fails('a step whose backward throws', /boom/, () => trainer.step(() => Promise.reject(new Error('boom'))))
  trainer.dispose()
})

test('an error on the stream in the middle of the work leaves nothing', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const { decoder } = model
  const { vocab } = decoder.spec
  const trainer = new Trainer(decoder, trainerOptions, 5)
  await languageStep(decoder, trainer)
  const half = device.alloc({ dtype: 'bf16', shape: [2], category: 'activations', zeroed: true })
  await half.read()
  const poison = (): void => native().fill(device, { out: half, value: 1 }) // fill knows no bf16: fails when it runs
  const cases: Record<string, () => Promise<unknown>> = {
    score: () => scoreLogprobs(decoder, batchOf(4, vocab)),
    generate: () => generateAll(decoder, randomPrompts(5, 8, vocab), generation(vocab)),
    'train step': () => languageStep(decoder, trainer),
    'train step with a loss': () => trainLogprobs(decoder, batchOf(4, vocab), (lp) => ({ loss: 0, grad: lp })),
    'train step, between forward and backward': () =>
      trainer.step(() =>
        trainLogprobs(decoder, batchOf(4, vocab), (lp) => {
          poison()
          return { loss: 0, grad: lp }
        }),
      ),
    'generate, in the middle': () => {
      let tokens = 0
      const stop = (): boolean => {
        if (++tokens === 9) poison()
        return false
      }
      return generateAll(decoder, randomPrompts(5, 8, vocab), generation(vocab, { stop }))
    },
    update: () => trainer.optimizer.update(1e-3),
  }
  for (const [what, body] of Object.entries(cases))
    await leaves(t, device, what, async () => {
      poison()
      const error = await t.throwsAsync(body, undefined, what)
      t.regex(error.message, /^\[fill\] expected fp32 or int32, received bf16/, what)
      device.clearError()
    })
  t.true(Number.isFinite((await languageStep(decoder, trainer)).loss), 'the device works on')
  half.dispose()
  trainer.dispose()
})

test('leaving a generation early leaves nothing', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const { vocab } = model.decoder.spec
  await leaves(t, device, 'break out of the loop', async () => {
    for await (const row of generate(model.decoder, randomPrompts(8, 8, vocab), generation(vocab, { maxBatch: 2 }))) {
      t.true(device.stats().bytes.kvCache > 0, 'the cache is counted while it lives')
      if (row.ids.length > 0) break
    }
  })
  t.is(device.stats().bytes.kvCache, 0)
})

for (const dtype of ['fp32', 'bf16'] as DType[])
  test(`${dtype}: memory stays flat over 200 training steps`, async (t) => {
    using device = createDevice({ threads: 1 }) // the scratch memory of two threads overlaps by chance
    using model = await freshModel(device, 'tiny', { dtype })
    const trainer = new Trainer(model.decoder, trainerOptions, 200)
    const totals = new Set<number>()
    const blocks = new Set<number>()
    let peak = 0
    let cached = 0
    for (let step = 1; step <= 200; step++) {
      await languageStep(model.decoder, trainer)
      const { total, blocks: live } = await inUse(device)
      if (step <= 5) {
        peak = device.stats().totalPeak
        cached = device.stats().cached
        continue
      }
      totals.add(total)
      blocks.add(live)
    }
    t.is(totals.size, 1, `bytes in use after each step: ${[...totals].join(', ')}`)
    t.is(blocks.size, 1)
    t.is(device.stats().totalPeak, peak, 'the peak does not rise after step 5')
    t.is(device.stats().cached, cached, 'nor does what is held for reuse')
    t.true(peak > totals.values().next().value!, 'activations were counted')
    trainer.dispose()
  })

test('memory stays flat over 100 generations', async (t) => {
  using device = createDevice({ threads: 1 }) // scratch memory of two threads overlaps by chance
  using model = await freshModel(device, 'tiny')
  const { vocab } = model.decoder.spec
  const prompts = randomPrompts(4, 6, vocab)
  const options = generation(vocab, { maxNewTokens: 6, maxBatch: 2 })
  let first: { total: number; blocks: number; peak: number } | undefined
  for (let i = 0; i < 100; i++) {
    await generateAll(model.decoder, prompts, options)
    const now = { ...(await inUse(device)), peak: device.stats().totalPeak }
    first ??= now
    t.deepEqual(now, first)
  }
})

test('what is held for reuse can be given back', async (t) => {
  using device = createDevice({ threads: 1 })
  const one = fromFloats(device, new Float32Array(1000), [1000])
  await one.read()
  one.dispose()
  await device.sync()
  t.true(device.stats().cached >= 4000)
  device.emptyCache()
  t.is(device.stats().cached, 0)
  device.resetPeaks()
  t.is(device.stats().totalPeak, 0)
})
