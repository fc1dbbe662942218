// --compat deepspeed-chat against answers that are really padded, with the formulas written out.
import test from 'ava'

import { packRows } from '../../../lib/data/packing.js'
import { countedNumbers, makeRollouts, packRollouts, whitened } from '../../../lib/engine/experience.js'
import type { Rollout, ShapingOptions } from '../../../lib/engine/experience.js'
import { scoreLogprobs, scoreValues } from '../../../lib/engine/logprobs.js'
import { scorePadded, withWidths } from '../../../lib/engine/paddedExperience.js'
import { freshModel, generation, randomPrompts } from '../contracts/support.js'
import { createDevice } from '../device.js'

const shaping: ShapingOptions = { klCoef: 0.3, klEstimator: 'k1', rewardClip: 0.2, gamma: 0.9, gaeLambda: 0.8, whitenAdvantages: false, ensembleSpreadCoef: 0.5 }
const eosId = 12

for (const padId of [eosId, 5])
  test(`padding ${padId === eosId ? 'is the end token' : 'is another token'}: rewards, values, advantages and what counts`, async (t) => {
    using device = createDevice({ threads: 2 })
    using actor = await freshModel(device, 'tiny')
    using reference = await freshModel(device, 'tiny', { seed: 2 })
    using critic = await freshModel(device, 'tiny', { head: 'scalar', seed: 3 })
    using reward = await freshModel(device, 'tiny', { head: 'scalar', seed: 4 })
    using second = await freshModel(device, 'tiny', { head: 'scalar', seed: 5 })
    const models = { actor: actor.decoder, reference: reference.decoder, critic: critic.decoder, reward: reward.decoder, ensemble: [second.decoder] }
    const drawn = await makeRollouts(actor.decoder, randomPrompts(24, 4, 24), generation(24, { eosIds: [eosId], maxNewTokens: 10, temperature: 0.8 }))
    // two answers of one token and one that is only its end token
    const rollouts: Rollout[] = [...drawn, ...[[7], [eosId], [7, eosId]].map((ids) => ({ ...drawn[0]!, answer: Int32Array.from(ids), logprobs: Float32Array.from(ids, () => -3), finish: 'stop' as const }))]
    const widths = withWidths(rollouts, 8)
    t.is(widths[9]!.width, Math.max(...rollouts.slice(8, 16).map((r) => r.answer.length)))
    const experience = await scorePadded(models, widths, padId, 0.8, shaping)
    const seen = { grown: 0, uncounted: 0, cut: 0, dropped: 0, inside: 0 }
    for (const [i, e] of experience.entries()) {
      const { prompt, answer, width, logprobs } = widths[i]!
      const n = answer.length
      // one row, padded to its batch
      const ids = Int32Array.from([...prompt, ...answer, ...new Array<number>(width - n).fill(padId)])
      const row = packRows([{ ids, counted: Uint8Array.from(ids, (_, t2) => (t2 < prompt.length ? 0 : 1)) }])
      const all = Int32Array.from(ids.keys())
      const [refs, actors] = [await scoreLogprobs(reference.decoder, row, 0.8), await scoreLogprobs(actor.decoder, row, 0.8)]
      const values = Array.from(await scoreValues(critic.decoder, row, all)).slice(prompt.length - 1, -1)
      const tokens = Array.from(ids.slice(prompt.length))
      const mask: number[] = tokens.map((id) => (id === padId ? 0 : 1))
      const counted = mask.reduce((s, m) => s + m, 0)
      const end = tokens.includes(padId) ? tokens.indexOf(padId) : width
      const both = [(await scoreValues(reward.decoder, row, all))[prompt.length + end - 1]!, (await scoreValues(second.decoder, row, all))[prompt.length + end - 1]!] as const
      const spread = Math.abs(both[0] - both[1]) / 2
      t.true(Math.abs(e.spread - spread) < 1e-9 && Math.abs(e.score - ((both[0] + both[1]) / 2 - 0.5 * spread)) < 1e-9, `score of ${i}`)
      const old = tokens.map((_, k) => (k < n ? logprobs[k]! : actors[k]!))
      const rewards = tokens.map((_, k) => -0.3 * (old[k]! - refs[k]!))
      rewards[Math.min(counted + 1, width) - 1]! += Math.max(-0.2, Math.min(0.2, e.score))
      for (let k = counted + 1; k < width; k++) rewards[k] = values[k] = 0
      let advantage = 0
      for (let k = width - 1; k >= 0; k--) {
        advantage = rewards[k]! + 0.9 * (values[k + 1] ?? 0) - values[k]! + 0.9 * 0.8 * advantage
        if (k >= n) continue
        t.true(Math.abs(e.advantages[k]! - advantage) < 1e-6, `row ${i} token ${k}`)
        t.true(Math.abs(e.returns[k]! - advantage - values[k]!) < 1e-6)
        t.true(Math.abs(e.values[k]! - values[k]!) < 1e-6)
      }
      t.deepEqual(Array.from(e.counted!), counted > 1 ? mask.slice(0, n) : mask.slice(0, n).fill(0))
      t.is(e.answer, answer)
      if (counted === n && n < width) seen.grown++
      if (mask.slice(0, n).includes(0)) seen.uncounted++
      if (e.finish === 'length') seen.cut++
      if (counted <= 1) seen.dropped++
      if (tokens.slice(0, n).includes(padId) && tokens[n - 1] !== padId) seen.inside++
    }
    t.true(seen.uncounted > 3 && seen.cut > 0 && seen.dropped >= 2, JSON.stringify(seen))
    t.true(padId === eosId || (seen.grown > 5 && seen.inside > 0), JSON.stringify(seen))

    // what the losses see: the tokens that count
    const kept = experience.filter((e) => e.counted!.includes(1))
    const batch = packRollouts(kept)
    t.is(batch.countedTotal, kept.reduce((s, e) => s + e.counted!.reduce((a, b) => a + b, 0), 0))
    t.deepEqual(Array.from(countedNumbers(kept, (e) => e.answer)), Array.from(batch.countedPositions, (p) => batch.targets[p]!))
    const white = countedNumbers(whitened(kept), (e) => e.advantages)
    t.true(Math.abs(white.reduce((s, x) => s + x, 0)) < 1e-6 * white.length)
  })
