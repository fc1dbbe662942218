// Dropout: where masks stand, that backward meets them, that they depend on the seed, the step and a token's own row and
// place alone.
import test from 'ava'

import { philox } from '../../../lib/base/random.js'
import { native } from '../../../lib/binding/native.js'
import { writeFloats } from '../../../lib/checkpoint/weights.js'
import { packRows } from '../../../lib/data/packing.js'
import type { TokenRow } from '../../../lib/data/records.js'
import { scoreLogprobs, trainLogprobsLinear } from '../../../lib/engine/logprobs.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { Tape } from '../../../lib/tensor/tape.js'
import { createDevice, numel, readFloats, slow } from '../device.js'
import { loadFixture } from '../model/oracle.js'
import { anyModel, freshModel, randomRows, sameBits, trainerOptions } from './support.js'

const seed = Int32Array.of(0x1234567, -5)
const [low, high] = [0x1234567, -5 >>> 0]

/** The factor of one element, drawn here from Philox as native/kernels/dropout.h says. */
function factor(p: number, stream: number, row: number, position: number, column: number): number {
  return philox([Math.floor(column / 4), position, row, stream], [low, high])[column % 4]! < Math.fround(p) * 2 ** 32 ? 0 : 1 / (1 - Math.fround(p))
}
const stream = (layer: number, place: number): number => layer * 65536 + place
const [embedding, attentionOut, mlpOut] = [0, 1, 2]

/** Every parameter to `value(slot)`. */
function setAll(decoder: Decoder, value: (slot: string) => number): void {
  for (const { unit, slot } of decoder.parameterNames()) {
    const view = unit.view(slot)
    writeFloats(view, new Float32Array(numel(view.shape)).fill(value(slot)))
    view.dispose()
  }
}

for (const [name, drops] of [
  ['opt-post', { embedding: false, residual: true }],
  ['gpt2', { embedding: true, residual: true }],
  ['gptj', { embedding: true, residual: true }],
  ['neox', { embedding: true, residual: true }],
  ['bloom', { embedding: false, residual: true }],
  ['phi3', { embedding: false, residual: true }],
  ['llama-tiny', { embedding: false, residual: false }],
] as const)
  test(`${name}: the masks stand where transformers has them`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await loadFixture(device, name)
    const { decoder } = model
    t.is(decoder.spec.dropsEmbedding, drops.embedding)
    t.is(decoder.spec.dropsResidual, drops.residual)
    if (!['gpt2', 'neox', 'gptj'].includes(name)) return
    // With weights of 0 the embedding is 1 and each half adds its bias alone (GPT-J's attention has none): what the hidden states
    // before the final norm sum up to are the masks themselves. The norm is undone by asking for its input's pattern.
    const { hidden, layers } = decoder.spec
    setAll(decoder, (slot) => (slot === 'tokens.weight' ? 1 : slot === 'attn.out.bias' ? 10 : slot === 'mlp.down.bias' ? 100 : slot === 'norm.weight' ? 1 : 0))
    const p = 0.25
    decoder.dropout = { p, seed }
    const [a, b] = [3, 5]
    const rows: TokenRow[] = [a, b].map((n) => ({ ids: new Int32Array(n).fill(3), counted: new Uint8Array(n).fill(1) }))
    using tape = new Tape()
    const out = decoder.forward(
      packRows(rows, (i) => 7 + i),
      tape,
    )
    const got = await readFloats(out)
    out.dispose()
    let at = 0
    for (const [i, row] of rows.entries())
      for (let position = 0; position < row.ids.length; position++, at++) {
        const sum = Array.from({ length: hidden }, (_, c) => {
          let x = factor(p, stream(0, embedding), 7 + i, position, c)
          for (let layer = 0; layer < layers; layer++) {
            if (name !== 'gptj') x += 10 * factor(p, stream(layer, attentionOut), 7 + i, position, c)
            x += 100 * factor(p, stream(layer, mlpOut), 7 + i, position, c)
          }
          return x
        })
        const mean = sum.reduce((s, x) => s + x, 0) / hidden
        const deviation = Math.sqrt(sum.reduce((s, x) => s + (x - mean) ** 2, 0) / hidden + decoder.spec.normEps)
        for (const [c, x] of sum.entries()) t.true(Math.abs(got[at * hidden + c]! - (x - mean) / deviation) < 1e-4)
      }
  })

interface Pass {
  loss: number
  logprobs: Float32Array
  gradients: Float32Array
}

/** One step's loss and gradients, in micro-batches of these sizes. */
async function pass(decoder: Decoder, rows: readonly TokenRow[], sizes: readonly number[]): Promise<Pass> {
  decoder.trainable()
  for (const unit of decoder.units) if (unit.layout.size > 0) native().fill(decoder.device, { out: unit.grads!, value: 0 })
  const count = packRows(rows).countedTotal
  const logprobs: number[] = []
  let first = 0
  for (const n of sizes) {
    const begin = first
    const batch = packRows(rows.slice(first, (first += n)), (b) => begin + b)
    logprobs.push(...(await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, count))))
  }
  const parts = await Promise.all(decoder.units.map((u) => u.grads!.read() as Promise<Float32Array>))
  return { loss: tokenLoss(Float32Array.from(logprobs), count), logprobs: Float32Array.from(logprobs), gradients: Float32Array.from(parts.flatMap((p) => Array.from(p))) }
}

const names = slow ? ['gpt2', 'gemma3'] : ['opt-tiny', 'opt-post', 'gpt2', 'gptj', 'neox', 'bloom', 'phi3', 'gemma3', 'llama-tiny']

for (const name of names)
  test(`${name}: gradients are the slopes of the loss under the same masks`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await loadFixture(device, name)
    const { decoder } = model
    const rows = randomRows(4, decoder.spec.vocab)
    decoder.dropout = { p: 0.3, seed }
    const { gradients } = await pass(decoder, rows, [4])
    // Along the gradient itself, by central differences: d loss / d step = |gradient|. fp32 losses carry about 1e-6 / step.
    const before = await Promise.all(decoder.units.map((u) => u.params.read() as Promise<Float32Array>))
    const norm = Math.sqrt(gradients.reduce((s, g) => s + g * g, 0))
    const moved = async (by: number): Promise<number> => {
      let at = 0
      for (const [i, unit] of decoder.units.entries()) unit.params.write(before[i]!.map((x) => x + (by * gradients[at++]!) / norm))
      return (await pass(decoder, rows, [4])).loss
    }
    const step = 1e-2
    const slope = (8 * ((await moved(step / 2)) - (await moved(-step / 2))) - ((await moved(step)) - (await moved(-step)))) / (6 * step)
    t.true(Math.abs(slope / norm - 1) < 5e-3, `${slope} against ${norm}`)
    await moved(0)
    decoder.dropout = { p: 0.3, seed: Int32Array.of(1, 2) }
    const other = await pass(decoder, rows, [4])
    const cosine = gradients.reduce((s, g, i) => s + g * other.gradients[i]!, 0) / norm / Math.sqrt(other.gradients.reduce((s, g) => s + g * g, 0))
    t.true(cosine < 0.99, 'other masks give other gradients')
  })

for (const name of ['opt-odd', 'llama-odd', 'gpt2'])
  for (const dtype of ['fp32', 'bf16', 'fp16'] as const)
    test(`${name} ${dtype}: masks do not depend on packing or micro-batches, nor on what checkpointing computes again`, async (t) => {
      using device = createDevice({ threads: 2 })
      using model = await anyModel(device, name, dtype)
      const { decoder } = model
      const rows = randomRows(6, decoder.spec.vocab)
      const without = await pass(decoder, rows, [6])
      decoder.dropout = { p: 0.2, seed }
      const whole = await pass(decoder, rows, [6])
      t.false(sameBits(whole.logprobs, without.logprobs))
      for (const sizes of [[1, 5], [2, 2, 2], [1, 1, 1, 1, 1, 1]]) {
        const cut = await pass(decoder, rows, sizes)
        t.true(sameBits(cut.logprobs, whole.logprobs), 'the same forward, bit for bit')
        const distance = Math.sqrt(cut.gradients.reduce((s, g, i) => s + (g - whole.gradients[i]!) ** 2, 0) / whole.gradients.reduce((s, g) => s + g * g, 0))
        t.true(distance < 1e-5, `${distance}`)
      }
      decoder.gradientCheckpointing = true
      const again = await pass(decoder, rows, [6])
      t.true(sameBits(again.logprobs, whole.logprobs))
      t.true(sameBits(again.gradients, whole.gradients))
    })

test('scoring never drops, and a trainer draws other masks for each step and each model', async (t) => {
  using device = createDevice({ threads: 2 })
  using model = await anyModel(device, 'tiny')
  const { decoder } = model
  const batch = packRows(randomRows(3, 24))
  const plain = await scoreLogprobs(decoder, batch)
  decoder.dropout = { p: 0.5, seed }
  t.true(sameBits(await scoreLogprobs(decoder, batch), plain))
  const trainer = new Trainer(decoder, { ...trainerOptions, learningRate: 0 }, 4, { p: 0.5, seed: 9 })
  const seen: Float32Array[] = []
  const seeds: string[] = []
  for (let i = 0; i < 3; i++)
    await trainer.step(async () => {
      seeds.push(decoder.dropout!.seed.join())
      seen.push(await trainLogprobsLinear(decoder, batch, new Float32Array(batch.countedTotal).fill(0.1)))
      return { loss: i === 1 ? Number.NaN : 1 }
    })
  t.is(new Set(seeds).size, 3, 'a skipped step counts')
  t.false(sameBits(seen[0]!, seen[1]!) || sameBits(seen[1]!, seen[2]!) || sameBits(seen[0]!, plain))
  t.true((decoder.dropout as unknown) === null, 'off outside of the step')
  trainer.dispose()
  using critic = await freshModel(device, 'tiny', { head: 'scalar' })
  const other = new Trainer(critic.decoder, trainerOptions, 4, { p: 0.5, seed: 9 })
  await other.step(() => {
    t.not(critic.decoder.dropout!.seed.join(), seeds[0])
    return Promise.resolve({ loss: 1 })
  })
  other.dispose()
})
