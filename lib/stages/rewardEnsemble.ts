// Other reward models beside the one in training: how often they agree with it on the held-out rows, and how right they are
// together. They do not change, so their scores are taken once, and their memory is free again before training.
import { fail } from '../base/errors.js'
import type { RunHooks } from '../base/run.js'
import type { RankedRow } from '../data/records.js'
import type { RowList } from '../data/rowList.js'
import type { Comparison } from '../engine/rankedBatch.js'
import type { Decoder } from '../model/decoder.js'
import { agreement } from '../rlhf/ensembleScores.js'
import { scoresOn } from './rewardScores.js'
import type { EnsembleEvaluation, RewardScores } from './rewardScores.js'
import { loadModel } from './shared.js'
import type { MachineOptions } from './shared.js'

export interface EnsembleOptions extends MachineOptions {
  rewardEnsemble: readonly string[]
  perDeviceEvalBatchSize: number
}

/** Margins of each model of --reward-ensemble on the pairs of the held-out rows. Errors: no held-out rows, no reward model, another vocabulary, too few positions. */
export async function ensembleMargins(decoder: Decoder, held: RowList<RankedRow>, comparison: Comparison, options: EnsembleOptions & { maxSeqLen: number }, hooks: RunHooks): Promise<Float64Array[]> {
  const all: Float64Array[] = []
  if (options.rewardEnsemble.length > 0 && held.length === 0) fail('--reward-ensemble', 'held-out rows, on which the models are compared', 'none', '--eval-fraction 0.1, or --eval-data-path')
  for (const folder of options.rewardEnsemble) {
    using model = await loadModel(decoder.device, folder, options, hooks, { head: 'scalar', positions: options.maxSeqLen })
    const { spec, maxPositions } = model.decoder
    if (model.valueHeadIsFresh) fail('--reward-ensemble', `a reward model in ${folder}`, 'a language model without a value head', '`threefold reward` to train one')
    if (spec.vocab !== decoder.spec.vocab) fail('--reward-ensemble', `the vocabulary of the model in training (${decoder.spec.vocab})`, `${spec.vocab} in ${folder}`, 'a reward model trained with the same tokenizer')
    if (maxPositions < Math.min(options.maxSeqLen, decoder.maxPositions)) fail('--reward-ensemble', `room for rows of ${Math.min(options.maxSeqLen, decoder.maxPositions)} tokens in ${folder}`, `${maxPositions} positions`, 'a smaller --max-seq-len')
    all.push((await scoresOn(model.decoder, held, options.perDeviceEvalBatchSize, comparison)).margins)
  }
  return all
}

/** Of the model in training and the others; null without others. */
export function evaluateEnsemble(own: RewardScores, others: readonly Float64Array[]): EnsembleEvaluation | null {
  if (others.length === 0) return null
  const all = [own.margins, ...others]
  const shares = all.flatMap((a, i) => all.slice(i + 1).map((b) => agreement(a, b, own.weights)))
  return {
    agreement: shares.reduce((sum, share) => sum + share, 0) / shares.length,
    // right together where the mean margin agrees with the order people gave
    accuracy: agreement(own.margins.map((_, i) => all.reduce((sum, margins) => sum + margins[i]!, 0)), own.margins.map(() => 1), own.weights),
  }
}
