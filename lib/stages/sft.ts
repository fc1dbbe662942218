// Step 1, supervised fine-tuning: next-token loss on the answers.
import type { Given, Resolved } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { answerKind } from '../data/tokenize.js'
import { resolveStage } from './deepspeedConfig.js'
import type { Evaluation } from './language.js'
import { trainLanguage } from './language.js'
import { finishStage, openStage } from './loop.js'
import { sftOptions } from './options.js'
import { silent, withRun } from './shared.js'

export type SftOptions = Resolved<typeof sftOptions>

export interface LanguageResult {
  /** The model folder, or null when nothing is kept. */
  model: string | null
  /** Held-out loss and perplexity before and after; null without held-out rows. */
  before: Evaluation | null
  after: Evaluation | null
}

/** Trains the model in `modelNameOrPath` on prompt and answer rows. Only the answer counts unless lossOn is "all". */
export async function sft(given: Given<typeof sftOptions>, hooks: RunHooks = silent): Promise<LanguageResult> {
  const options = await resolveStage('sft', sftOptions, given, hooks)
  const countAll = options.lossOn === 'all'
  return withRun('sft', options, hooks, async (run, saves) => {
    using stage = await openStage(run, options, { step: 1, head: 'logprob', rows: answerKind, countAll })
    const { model, train, held } = stage
    const groups = { length: train.length, rows: (row: number) => [train.at(row)] }
    const evaluation = await trainLanguage({ run, saves }, model.decoder, groups, held, options)
    return { model: await finishStage(run, model, options), ...evaluation }
  })
}
