// Rankings in one pass against every pair on its own, and the positions that each comparison takes.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import type { RankedRow, TokenRow } from '../../../lib/data/records.js'
import { scoreValues, trainValues } from '../../../lib/engine/logprobs.js'
import { packRanked } from '../../../lib/engine/rankedBatch.js'
import type { Comparison } from '../../../lib/engine/rankedBatch.js'
import { paddedSpan, sharedSpan } from '../../../lib/rlhf/comparedPositions.js'
import { RewardScores } from '../../../lib/stages/rewardScores.js'
import { RandomSequence } from '../../../lib/base/random.js'
import { distance, freshModel, gradientsOf, zeroGradients } from '../contracts/support.js'
import { createDevice } from '../device.js'

const random = new RandomSequence(5, 1)
const ids = (n: number): number[] => Array.from({ length: n }, () => 1 + random.below(8))
const answer = (prompt: number[], own: number[]): TokenRow => ({ ids: Int32Array.from([...prompt, ...own]), counted: Uint8Array.from([...prompt.map(() => 0), ...own.map(() => 1)]) })

function rankedRow(ranks: number[], margin = 0): RankedRow {
  const prompt = ids(1 + random.below(4))
  return { answers: ranks.map(() => answer(prompt, ids(1 + random.below(6)))), ranks, margin }
}
const rows = [rankedRow([0, 1, 2, 3]), rankedRow([0, 1], 0.7), rankedRow([0, 0, 1]), rankedRow([0, 0]), rankedRow([0, 1]), rankedRow([2, 0, 1, 1, 3])]
const padding = { padId: 9, atBeginning: 0, length: 24 }
const center = 0.02

/** The loss from its formula, every pair with two forwards of its own. */
async function pairByPair(score: (row: number[]) => Promise<number[]>, comparison: Comparison): Promise<number> {
  const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
  let loss = 0
  for (const { answers, ranks, margin } of rows) {
    let sum = 0
    let pairs = 0
    for (const [i, a] of answers.entries())
      for (const [j, b] of answers.entries()) {
        if (ranks[i]! > ranks[j]! || (ranks[i] === ranks[j] && i >= j)) continue
        const both = [Array.from(a.ids), Array.from(b.ids)] as const
        const span = comparison === 'last' ? null : comparison === 'every-position' ? sharedSpan(...both) : paddedSpan(...both, comparison)
        const places = span ? Array.from({ length: span.to - span.from }, (_, k) => [span.from + k, span.from + k] as const) : [[both[0].length - 1, both[1].length - 1] as const]
        const filled = both.map((row) => [...row, ...new Array<number>(Math.max(0, (span?.to ?? 0) - row.length)).fill(padding.padId)])
        const [x, y] = [await score(filled[0]!), await score(filled[1]!)]
        const terms = places.map(([s, u]) => {
          const d = x[s]! - y[u]!
          return (ranks[i] === ranks[j] ? (softplus(d) + softplus(-d)) / 2 : softplus(margin - d)) + center * (x[s]! + y[u]!) ** 2
        })
        sum += terms.reduce((s, term) => s + term, 0) / terms.length
        pairs++
      }
    loss += sum / pairs
  }
  return loss / rows.length
}

for (const [name, comparison] of [['last', 'last'], ['every-position', 'every-position'], ['padded', padding]] as const)
  test(`${name}: K forwards give the loss of all pairs one by one, and micro-batches its gradient`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await freshModel(device, 'tiny', { head: 'scalar' })
    const { decoder } = model
    const score = async (row: number[]): Promise<number[]> => Array.from(await scoreValues(decoder, packRows([answer([], row)]), Int32Array.from(row.keys())))
    const expected = await pairByPair(score, comparison)
    const step = async (parts: RankedRow[][]): Promise<{ loss: number; gradients: Float32Array; tokens: number; accuracy: number }> => {
      zeroGradients(decoder)
      const scores = new RewardScores()
      let tokens = 0
      for (const part of parts) {
        const ranked = packRanked(part, comparison)
        tokens += ranked.batch.ids.length
        await trainValues(decoder, ranked.batch, ranked.rows, (values) => scores.add(ranked, values, rows.length, center))
      }
      return { loss: scores.loss, gradients: await gradientsOf(decoder), tokens, accuracy: scores.accuracy }
    }
    const whole = await step([rows])
    t.true(Math.abs(whole.loss - expected) < 1e-5, `${whole.loss} ${expected}`)
    const cut = await step(rows.map((row) => [row]))
    t.true(Math.abs(cut.loss - whole.loss) < 1e-6 && distance(cut.gradients, whole.gradients) < 1e-5)
    const own = rows.flatMap((row) => row.answers).reduce((sum, a) => sum + a.ids.length, 0)
    t.true(comparison === padding ? whole.tokens > own : whole.tokens === own, 'each answer is seen once')

    // accuracy: the mean over rows of their share of right pairs, by the scores at the last tokens
    const ends = await Promise.all(rows.map(({ answers }) => Promise.all(answers.map(async (a) => (await score(Array.from(a.ids))).at(-1)!))))
    const shares = rows.flatMap(({ ranks }, r) => {
      const strict = ranks.flatMap((a, i) => ranks.flatMap((b, j) => (a < b ? [ends[r]![i]! > ends[r]![j]! ? 1 : 0] : [])))
      return strict.length > 0 ? [strict.reduce((s: number, x) => s + x, 0) / strict.length] : []
    })
    t.is(shares.length, rows.length - 1, 'a row of ties has none')
    t.true(Math.abs(whole.accuracy - shares.reduce((s, x) => s + x, 0) / shares.length) < 1e-12)
  })

test('rows that part nowhere before the shorter end are compared at their last tokens', (t) => {
  const row: RankedRow = { answers: [answer([1, 2], [3, 4]), answer([1, 2], [3])], ranks: [0, 1], margin: 0 }
  const { rows: places, terms } = packRanked([row], 'every-position')
  t.deepEqual([places[terms.chosen[0]!], places[terms.rejected[0]!]], [3, 6])
  t.deepEqual(Array.from(terms.weight), [1])
})
