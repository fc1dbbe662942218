// Step 0, pretraining: packed texts, every token counts.
import type { Given, Resolved } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { packByTokens } from '../data/packing.js'
import { stageData } from '../data/stageData.js'
import { textRows } from '../data/tokenize.js'
import { trainLanguage } from './language.js'
import { pretrainOptions } from './options.js'
import type { LanguageResult } from './sft.js'
import { describeReport, loadModel, openDevice, saveModel, silent, withRun } from './shared.js'

export type PretrainOptions = Resolved<typeof pretrainOptions>

/**
 * Trains on {text} rows (or prompt and answer joined). Texts longer than maxSeqLen become several pieces; short ones
 * share a pack of at most maxSeqLen tokens, each its own sequence. One pack is one row of the batch.
 */
export async function pretrain(given: Given<typeof pretrainOptions>, hooks: RunHooks = silent): Promise<LanguageResult> {
  const options = resolveOptions('pretrain', pretrainOptions, given)
  return withRun('pretrain', options, hooks, async (run) => {
    const data = await stageData(options, 1)
    using device = openDevice(options)
    using model = await loadModel(device, options.modelNameOrPath, options, { head: 'logprob', positions: options.maxSeqLen })
    const { tokenizer, decoder } = model
    const maxSeqLen = Math.min(options.maxSeqLen, decoder.maxPositions)
    const tokenize = { tokenizer, vocabSize: decoder.spec.vocab, maxSeqLen }
    const train = await textRows(data.train, tokenize)
    const held = await textRows(data.eval, tokenize)
    run.progress.note(describeReport('pretrain', train.report, data.skipped))

    const inOrder = Int32Array.from(train.rows, (_, i) => i)
    const packs = packByTokens(train.rows, inOrder, maxSeqLen).map((pack) => Array.from(pack, (i) => train.rows[i]!))
    const evaluation = await trainLanguage(run, decoder, packs, held.rows, options)
    const folder = await saveModel(model, options.outputDir)
    run.throwIfStopped(folder)
    return { model: folder, ...evaluation }
  })
}
