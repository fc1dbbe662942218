// Step 0, pretraining: packed texts, every token counts.
import type { Given, Resolved } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { packByTokens } from '../data/packing.js'
import { textKind } from '../data/tokenize.js'
import { resolveStage } from './deepspeedConfig.js'
import { trainLanguage } from './language.js'
import { finishStage, openStage } from './loop.js'
import { pretrainOptions } from './options.js'
import type { LanguageResult } from './sft.js'
import { silent, withRun } from './shared.js'

export type PretrainOptions = Resolved<typeof pretrainOptions>

/**
 * Trains on {text} rows (or prompt and answer joined). Texts longer than maxSeqLen become several pieces; short ones
 * share a pack of at most maxSeqLen tokens, each its own sequence. One pack is one row of the batch.
 */
export async function pretrain(given: Given<typeof pretrainOptions>, hooks: RunHooks = silent): Promise<LanguageResult> {
  const options = await resolveStage('pretrain', pretrainOptions, given, hooks)
  return withRun('pretrain', options, hooks, async (run, saves) => {
    using stage = await openStage(run, options, { step: 1, head: 'logprob', rows: textKind })
    const { model, train, held } = stage
    const maxSeqLen = Math.min(options.maxSeqLen, model.decoder.maxPositions)
    const packs = packByTokens(train, maxSeqLen)
    const groups = { length: packs.length, rows: (pack: number) => Array.from(packs[pack]!, (row) => train.at(row)) }
    const evaluation = await trainLanguage({ run, saves }, model.decoder, groups, held, options)
    return { model: await finishStage(run, model, options), ...evaluation }
  })
}
