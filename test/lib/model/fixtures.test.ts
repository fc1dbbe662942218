// The decoder against float64 transformers: log-probs, gradients, a ten-step loss curve, values, greedy text.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { lastTokens, scoreLogprobs, scoreValues, trainLogprobsLinear, trainValues } from '../../../lib/engine/logprobs.js'
import { Trainer } from '../../../lib/engine/trainer.js'
import { writeFloats } from '../../../lib/checkpoint/weights.js'
import { pairwiseLoss } from '../../../lib/rlhf/pairwiseLoss.js'
import { tokenLoss, tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { generateAll } from '../../../lib/rollout/generate.js'
import { createDevice } from '../device.js'
import { Oracle, loadFixture, models, stockGradients, worst } from './oracle.js'

const LOGPROB_BOUND = 2e-5
// What bf16 costs transformers on the same weights, with some room: the errors are random, and ours fall elsewhere.
const bf16Bound = ({ worst, mean }: { worst: number; mean: number }) => ({ worst: 3 * worst + 0.02, mean: 1.3 * mean + 0.003 })
// fp16 has three bits more: an eighth of that.
const shareOf = { bf16: 1, fp16: 1 / 8 } as const

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0))
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => norm(Array.from(a, (x, i) => x - b[i]!))

for (const name of models) {
  test(`${name}: log-probs within 2e-5 of float64`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    using model = await loadFixture(device, name)
    const batch = oracle.batch(true)
    const got = await scoreLogprobs(model.decoder, batch)
    const all = await oracle.doubles('logprobs')
    const want = Array.from(batch.countedPositions, (p) => all[p + 1]!)
    t.true(worst(got, want) <= LOGPROB_BOUND, `worst ${worst(got, want)}`)
    t.true(worst(got, want.map((x) => x + 5e-5 * Math.max(1, Math.abs(x)))) > LOGPROB_BOUND, 'a shift is seen')
  })

  for (const dtype of ['bf16', 'fp16'] as const)
    test(`${name}: ${dtype} log-probs within the stated bound of float64`, async (t) => {
      using device = createDevice({ threads: 2 })
      const oracle = await Oracle.open(name)
      using model = await loadFixture(device, name, dtype)
      const batch = oracle.batch(true)
      const got = await scoreLogprobs(model.decoder, batch)
      const all = await oracle.doubles('logprobs')
      const gaps = Array.from(batch.countedPositions, (p, i) => Math.abs(got[i]! - all[p + 1]!))
      const [worstGap, meanGap] = await oracle.doubles('bf16_gap')
      const bound = bf16Bound({ worst: worstGap!, mean: meanGap! })
      const mean = gaps.reduce((s, x) => s + x, 0) / gaps.length
      t.true(Math.max(...gaps) <= shareOf[dtype] * bound.worst, `worst ${Math.max(...gaps)} over ${shareOf[dtype] * bound.worst}`)
      t.true(mean <= shareOf[dtype] * bound.mean, `mean ${mean} over ${shareOf[dtype] * bound.mean}`)
    })

  test(`${name}: each gradient within 1e-4 of its norm`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    using model = await loadFixture(device, name)
    model.decoder.trainable()
    const batch = oracle.batch()
    await trainLogprobsLinear(model.decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal))
    const got = await stockGradients(model)
    t.true(got.size >= 10)
    for (const [weight, g] of got) {
      const want = await oracle.floats(`grad.${weight}`)
      const bound = 1e-4 * norm(want) + 1e-6
      t.true(distance(g, want) <= bound, `${weight}: ${distance(g, want)} over ${bound}`)
      if (norm(want) > 1e-3) t.true(distance(g.map((x) => x * 1.001), want) > bound, `${weight}: 0.1 % is seen`)
    }
  })

  test(`${name}: ten AdamW steps follow PyTorch`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    using model = await loadFixture(device, name)
    const batch = oracle.batch()
    const trainer = new Trainer(
      model.decoder,
      { learningRate: 1e-3, weightDecay: 0.1, adamBeta1: 0.9, adamBeta2: 0.95, adamEps: 1e-8, maxGradNorm: 1, lrSchedulerType: 'constant', numWarmupSteps: 0, maxSkippedSteps: 1 },
      10,
    )
    const want = await oracle.doubles('curve_f64')
    const losses: number[] = []
    for (let step = 0; step < 10; step++) {
      const { loss } = await trainer.step(async () => ({
        loss: tokenLoss(await trainLogprobsLinear(model.decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal)), batch.countedTotal),
      }))
      losses.push(loss)
    }
    trainer.dispose()
    for (const [i, loss] of losses.entries()) t.true(Math.abs(loss - want[i]!) <= 2e-4 * want[i]!, `step ${i}: ${loss} against ${want[i]!}`)
    t.true(Math.abs(losses[9]! - want[8]!) > 2e-4 * want[8]!, 'one step off is seen')
  })

  test(`${name}: scalar head and pairwise gradients`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    using model = await loadFixture(device, name, 'fp32', 'scalar')
    const view = model.decoder.head.view('value.weight')
    writeFloats(view, await oracle.floats('value_weight'))
    view.dispose()
    const batch = oracle.batch(true)
    const rows = Int32Array.from(batch.ids, (_, i) => i)
    t.true(worst(await scoreValues(model.decoder, batch, rows), await oracle.doubles('values')) <= LOGPROB_BOUND * 5)

    model.decoder.trainable()
    const [a, b] = [0, 1].map((s) => batch.ids.slice(batch.starts[s], batch.starts[s + 1]))
    const pair = packRows([a!, b!].map((ids) => ({ ids, counted: new Uint8Array(ids.length) })))
    const result = await trainValues(model.decoder, pair, lastTokens(pair), (v) => {
      const p = pairwiseLoss({ chosen: [v[0]!], rejected: [v[1]!], count: 1 })
      return { loss: p.loss, grad: [p.gradChosen[0]!, p.gradRejected[0]!] }
    })
    const [wantLoss] = await oracle.doubles('pair_loss')
    t.true(Math.abs(result.loss - wantLoss!) <= 1e-4 * Math.max(1, wantLoss!))
    for (const [weight, g] of await stockGradients(model)) {
      const want = await oracle.floats(weight === 'score.weight' ? 'pair_grad.value_weight' : `pair_grad.${weight}`)
      t.true(distance(g, want) <= 1e-4 * norm(want) + 1e-5, weight)
    }
  })

  test(`${name}: greedy text is transformers' text`, async (t) => {
    using device = createDevice({ threads: 2 })
    const oracle = await Oracle.open(name)
    using model = await loadFixture(device, name)
    const longest = oracle.lengths.indexOf(Math.max(...oracle.lengths))
    const { starts, ids } = oracle.batch(true)
    const prompt = ids.slice(starts[longest], starts[longest]! + 6)
    const [out] = await generateAll(model.decoder, [{ ids: prompt, seed: 0n }], { temperature: 0, topK: 0, topP: 1, maxNewTokens: 12, eosIds: [], maxBatch: 1, pageSize: 4 })
    t.deepEqual(Array.from(out!.ids), Array.from(await oracle.ints('greedy')))
  })
}
