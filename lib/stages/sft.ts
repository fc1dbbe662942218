// Step 1, supervised fine-tuning: next-token loss on the answers.
import type { Given, Resolved } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { stageData } from '../data/stageData.js'
import { sftRows } from '../data/tokenize.js'
import type { Evaluation } from './language.js'
import { trainLanguage } from './language.js'
import { sftOptions } from './options.js'
import { describeReport, loadModel, openDevice, saveModel, silent, withRun } from './shared.js'

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
  const options = resolveOptions('sft', sftOptions, given)
  return withRun('sft', options, hooks, async (run) => {
    const data = await stageData(options, 1)
    using device = openDevice(options)
    using model = await loadModel(device, options.modelNameOrPath, options, { head: 'logprob', positions: options.maxSeqLen })
    const { tokenizer, decoder } = model
    const tokenize = { tokenizer, vocabSize: decoder.spec.vocab, maxSeqLen: Math.min(options.maxSeqLen, decoder.maxPositions), countAll: options.lossOn === 'all' }
    const train = await sftRows(data.train, tokenize)
    const held = await sftRows(data.eval, tokenize)
    run.progress.note(describeReport('sft', train.report, data.skipped))

    const groups = train.rows.map((row) => [row])
    const evaluation = await trainLanguage(run, decoder, groups, held.rows, options)
    const folder = await saveModel(model, options.outputDir)
    run.throwIfStopped(folder)
    return { model: folder, ...evaluation }
  })
}
