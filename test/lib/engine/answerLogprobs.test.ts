// DPO on whole models against transformers and torch in float64 (test/oracle/preferences.py): log-probs of answers, losses, gradients.
import test from 'ava'

import { packPairs, packRows } from '../../../lib/data/packing.js'
import { answerLengths, scoreAnswers, trainAnswers } from '../../../lib/engine/answerLogprobs.js'
import type { DpoLossType } from '../../../lib/rlhf/dpoLoss.js'
import { PairSums } from '../../../lib/stages/dpo.js'
import { createDevice } from '../device.js'
import { loadFixture, stockGradients, worst } from '../model/oracle.js'
import { formulaFixture } from '../rlhf/support.js'

interface Case {
  model: string
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[]
  policyChosen: number[]
  policyRejected: number[]
  refChosen: number[]
  refRejected: number[]
  losses: { lossType: DpoLossType; beta: number; labelSmoothing: number; lengthNormalize: boolean; loss: number; gradNorm: number; grads: Record<string, number[]> }[]
}

const row = (prompt: number[], answer: number[]) => ({ ids: Int32Array.from([...prompt, ...answer]), counted: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]) })
const norm = (x: Iterable<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0))

for (const c of formulaFixture<Case[]>('preferences')) {
  const batch = packPairs(c.pairs.map((p) => ({ chosen: row(p.prompt, p.chosen), rejected: row(p.prompt, p.rejected), promptLength: p.prompt.length })))

  test(`${c.model}: log-probs of answers, chosen ones first`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await loadFixture(device, c.model)
    const want = [...c.policyChosen, ...c.policyRejected]
    t.true(worst(await scoreAnswers(model.decoder, batch), want) < 2e-5)
    t.true(worst(await scoreAnswers(model.decoder, batch), [...c.policyRejected, ...c.policyChosen]) > 2e-5)
    t.deepEqual(Array.from(answerLengths(batch)), [...c.pairs.map((p) => p.chosen.length), ...c.pairs.map((p) => p.rejected.length)])
  })

  for (const o of c.losses)
    test(`${c.model}: loss and gradients of ${o.lossType}, beta ${o.beta}${o.lengthNormalize ? ', per token' : ''}`, async (t) => {
      using device = createDevice({ threads: 2 })
      using model = await loadFixture(device, c.model)
      model.decoder.trainable()
      const sums = new PairSums(o)
      const ref = Float64Array.from([...c.refChosen, ...c.refRejected])
      // two micro-batches: pairs 0 to 2, then 3 and 4
      const n = c.pairs.length
      for (const part of [[0, 1, 2], [3, 4]]) {
        const of = (values: Float64Array) => Float64Array.from([...part.map((i) => values[i]!), ...part.map((i) => values[n + i]!)])
        const pairs = part.map((i) => ({ chosen: row(c.pairs[i]!.prompt, c.pairs[i]!.chosen), rejected: row(c.pairs[i]!.prompt, c.pairs[i]!.rejected), promptLength: 0 }))
        const micro = packPairs(pairs)
        await trainAnswers(model.decoder, micro, (policy) => sums.add(micro, policy, of(ref), n))
      }
      t.true(Math.abs(sums.loss - o.loss) < 1e-5 * Math.max(1, o.loss), `${sums.loss} and ${o.loss}`)
      const got = await stockGradients(model)
      t.true(Math.abs(norm(Array.from(got.values()).flatMap((g) => Array.from(g))) / o.gradNorm - 1) < 1e-4)
      let compared = 0
      for (const [name, want] of Object.entries(o.grads)) {
        const g = got.get(name)!
        const distance = norm(want.map((x, i) => x - g[i]!))
        // beside its own norm an absolute term: key biases have a gradient of zero in theory
        t.true(distance <= 1e-4 * norm(want) + 1e-6 * o.gradNorm, `${name}: ${distance}`)
        if (norm(want) > 1e-2 * o.gradNorm) {
          compared++
          t.true(norm(want.map((x, i) => x - 1.001 * g[i]!)) > 1e-4 * norm(want) + 1e-6 * o.gradNorm, `${name}: 0.1 % is seen`)
        }
      }
      t.true(compared >= 3)
    })
}

test('an answer without a counted token has length 0 and log-prob 0', async (t) => {
  using device = createDevice({ threads: 1 })
  using model = await loadFixture(device, 'opt-tiny')
  const batch = packRows([row([5, 6], [7]), { ids: Int32Array.of(9), counted: Uint8Array.of(1) }, row([5], [7, 8])])
  t.deepEqual(Array.from(answerLengths(batch)), [1, 0, 2])
  const answers = await scoreAnswers(model.decoder, batch)
  t.is(answers[1], 0)
  t.true(answers[0]! < 0 && answers[2]! < 0)
})
