// Continuous generation: what each row gets, when it ends, what is refused.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { native } from '../../../lib/binding/native.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { projection } from '../../../lib/model/heads.js'
import { generate, generateAll, rowSeed } from '../../../lib/rollout/generate.js'
import type { GenerateOptions } from '../../../lib/rollout/generate.js'
import { createDevice, readFloats } from '../device.js'
import { Scope } from '../../../lib/tensor/scope.js'
import { freshModel, generation, nudge, randomPrompts } from '../contracts/support.js'

const vocab = 24

/** Logits [V] of the token after `ids`, by a forward pass without a cache. */
async function nextLogits(decoder: Decoder, ids: readonly number[]): Promise<Float32Array> {
  using scope = new Scope()
  const rows = packRows([{ ids: Int32Array.from(ids), counted: new Uint8Array(ids.length) }])
  const hidden = scope.own(decoder.forward(rows, null))
  const last = scope.own(native().gatherRows(decoder.device, { x: hidden, rows: Int32Array.of(ids.length - 1) }))
  return readFloats(scope.own(native().matmul(decoder.device, { a: last, b: projection(decoder, scope).weight, dtype: 'fp32' })))
}

const argmax = (x: Float32Array): number => x.indexOf(Math.max(...x))
const plain = (options: Partial<GenerateOptions> = {}): GenerateOptions => generation(vocab, { eosIds: [], maxNewTokens: 8, ...options })

test('greedy takes the likeliest token of a forward pass over everything so far', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const prompts = randomPrompts(5, 9, vocab)
  const answers = await generateAll(model.decoder, prompts, plain({ temperature: 0, maxBatch: 2, pageSize: 3 }))
  for (const [i, { ids, logprobs, finish }] of answers.entries()) {
    t.is(finish, 'length')
    t.is(ids.length, 8)
    const sofar = Array.from(prompts[i]!.ids)
    for (const [n, id] of ids.entries()) {
      const logits = await nextLogits(model.decoder, sofar)
      t.is(id, argmax(logits), `row ${i} token ${n}`)
      const lse = Math.log(logits.reduce((s, x) => s + Math.exp(x), 0))
      t.true(Math.abs(logprobs[n]! - (logits[id]! - lse)) < 1e-5, 'greedy log-probs are those of temperature 1')
      sofar.push(id)
    }
  }
})

test('the seed of a row decides its answer; the same prompt with another seed gives another', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const ids = Int32Array.of(5, 6, 7)
  const rows = [1n, 2n, 1n, 3n].map((seed) => ({ ids, seed }))
  const answers = await generateAll(model.decoder, rows, plain({ maxNewTokens: 12 }))
  t.deepEqual(answers[0]!.ids, answers[2]!.ids)
  t.notDeepEqual(answers[0]!.ids, answers[1]!.ids)
  t.notDeepEqual(answers[0]!.ids, answers[3]!.ids)
  t.notDeepEqual(answers[0]!.ids.slice(0, 6), answers[0]!.ids.slice(6), 'positions draw different numbers')
})

test('seeds of rows and runs never meet', (t) => {
  const seeds = new Set<bigint>()
  for (const run of [0, 1, 2, 1234]) for (let row = 0; row < 50; row++) seeds.add(rowSeed(run, row))
  t.is(seeds.size, 200)
  t.true([...seeds].every((s) => s >= 0n && s < 2n ** 64n))
})

test('an end token ends the row and is part of it', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const prompts = randomPrompts(12, 6, vocab)
  const whole = await generateAll(model.decoder, prompts, plain({ maxNewTokens: 20 }))
  const eosIds = [4, 9, 14]
  const answers = await generateAll(model.decoder, prompts, plain({ maxNewTokens: 20, eosIds, maxBatch: 3 }))
  let stopped = 0
  for (const [i, { ids, finish }] of answers.entries()) {
    const end = whole[i]!.ids.findIndex((id) => eosIds.includes(id))
    t.is(finish, end >= 0 ? 'stop' : 'length')
    t.deepEqual(ids, end >= 0 ? whole[i]!.ids.slice(0, end + 1) : whole[i]!.ids)
    if (end >= 0) stopped++
  }
  t.true(stopped > 4 && answers.some((a) => a.ids.length > 5))
})

test('rows come as they finish, each once, with its index', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const order: number[] = []
  const stop = (index: number): boolean => index !== 0
  for await (const { index, ids } of generate(model.decoder, randomPrompts(6, 4, vocab), plain({ maxBatch: 2, stop }))) {
    order.push(index)
    t.is(ids.length, index === 0 ? 8 : 1)
  }
  t.deepEqual(order.toSorted(), [0, 1, 2, 3, 4, 5])
  t.is(order.indexOf(0), 5, 'the long row does not hold up the others')
  t.deepEqual(await generateAll(model.decoder, [], plain()), [])
})

test('stop sees every token once and in order, also of rows that wait for others to enter', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const seen: number[][] = Array.from({ length: 9 }, () => [])
  const stop = (index: number, token: number): boolean => {
    seen[index]!.push(token)
    return seen[index]!.length === 1 + (index % 4)
  }
  const answers = await generateAll(model.decoder, randomPrompts(9, 4, vocab), plain({ maxBatch: 3, stop }))
  t.deepEqual(answers.map((a) => Array.from(a.ids)), seen)
})

test('answers end where the positions of the model end', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const [answer] = await generateAll(model.decoder, [{ ids: new Int32Array(60).fill(5), seed: 1n }], plain({ maxNewTokens: 50 }))
  t.is(answer!.ids.length, 4)
  t.is(answer!.finish, 'length')
})

test('prompts and settings that make no sense are refused', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  using reward = await freshModel(device, 'tiny', { head: 'scalar' })
  const all = (ids: number[], options: Partial<GenerateOptions> = {}, decoder = model.decoder) => generateAll(decoder, [{ ids: Int32Array.of(3), seed: 0n }, { ids: Int32Array.from(ids), seed: 1n }], plain(options))
  await t.throwsAsync(all([]), { message: /prompts of at least one token, received an empty one \(row 1\)/ })
  await t.throwsAsync(all(new Array<number>(64).fill(3)), { message: /shorter than the model's 64 positions, received 64 tokens \(row 1\)/ })
  await t.throwsAsync(all([3, 24]), { message: /token ids from 0 to 23, received 24 at position 1 of row 1/ })
  await t.throwsAsync(all([-1]), { message: /received -1 at position 0 of row 1/ })
  await t.throwsAsync(all([3], { temperature: -1 }), { message: /temperature of 0 or more, received -1/ })
  await t.throwsAsync(all([3], { temperature: NaN }), { message: /temperature/ })
  await t.throwsAsync(all([3], { topK: 1.5 }), { message: /top-k of 0 or more, received 1.5/ })
  await t.throwsAsync(all([3], { topP: 0 }), { message: /top-p above 0 and at most 1, received 0/ })
  await t.throwsAsync(all([3], { topP: 1.1 }), { message: /top-p/ })
  await t.throwsAsync(all([3], {}, reward.decoder), { message: /language-model head/ })
  t.is((await all([3], { topK: 5, topP: 0.9 })).length, 2)
})

test('a signal in the middle ends the generation with its reason', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const stopper = new AbortController()
  let finished = 0
  const work = async (): Promise<void> => {
    for await (const row of generate(model.decoder, randomPrompts(6, 4, vocab), plain({ maxBatch: 1, signal: stopper.signal }))) {
      finished += row.ids.length > 0 ? 1 : 0
      if (finished === 2) stopper.abort(new Error('enough'))
    }
  }
  await t.throwsAsync(work, { message: 'enough' })
  t.is(finished, 2)
})

test('cutting to one token is greedy; recorded log-probs are before the cut', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  const prompts = randomPrompts(6, 6, vocab)
  const greedy = await generateAll(model.decoder, prompts, plain({ temperature: 0 }))
  for (const cut of [{ topK: 1 }, { topP: 1e-6 }]) {
    const answers = await generateAll(model.decoder, prompts, plain(cut))
    t.deepEqual(answers, greedy, JSON.stringify(cut))
  }
  t.true(greedy.every((a) => a.logprobs.every((lp) => lp < -0.1)), 'not the 0 of a distribution with one token')
  const three = await generateAll(model.decoder, prompts, plain({ topK: 3, maxNewTokens: 1 }))
  for (const [i, { ids }] of three.entries()) {
    const logits = await nextLogits(model.decoder, Array.from(prompts[i]!.ids))
    t.true(logits.filter((x) => x > logits[ids[0]!]!).length < 3, 'one of the three likeliest')
  }
})

test('draws follow the probabilities (chi-square), with temperature', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'tiny')
  for (let i = 0; i < 40; i++) await nudge(model.decoder, 0, 32 * 7 + i, 0.4) // uneven probabilities
  const ids = Int32Array.of(5, 6)
  const n = 3000
  const draws = async (temperature: number): Promise<number[]> => {
    const rows = Array.from({ length: n }, (_, i) => ({ ids, seed: rowSeed(9, i) }))
    const counts = new Array<number>(vocab).fill(0)
    for (const a of await generateAll(model.decoder, rows, plain({ temperature, maxNewTokens: 1, maxBatch: 600 }))) counts[a.ids[0]!]!++
    return counts
  }
  const logits = await nextLogits(model.decoder, Array.from(ids))
  const chiSquare = (counts: number[], temperature: number): number => {
    const weights = Array.from(logits, (x) => Math.exp(x / temperature))
    const sum = weights.reduce((s, x) => s + x, 0)
    return counts.reduce((s, c, i) => s + (c - (n * weights[i]!) / sum) ** 2 / ((n * weights[i]!) / sum), 0)
  }
  const limit = 49.7 // 99.9 % point with 23 degrees of freedom
  const [hot, cold] = [await draws(1), await draws(0.5)]
  t.true(chiSquare(hot, 1) < limit, `${chiSquare(hot, 1)}`)
  t.true(chiSquare(cold, 0.5) < limit, `${chiSquare(cold, 0.5)}`)
  t.true(chiSquare(cold, 1) > limit, 'another temperature is told apart')
})
