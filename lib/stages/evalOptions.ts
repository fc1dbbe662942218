// Options of `threefold eval`.
import { option } from '../base/options.js'
import { dataOptions } from './options.js'
import { computeOptions, drawing, generateOptions, plainDrawing, scoreOptions } from './useOptions.js'

export const evalOptions = {
  model: option.optionalText('language model to evaluate: a folder in the Hugging Face layout, or a hub id'),
  against: option.optionalText('language model to compare it with, on the same prompts'),
  rewardModel: option.optionalText('reward model that scores the answers; on pairs its own accuracy is measured'),
  dataPath: dataOptions.dataPath,
  columns: dataOptions.columns,
  maxSeqLen: dataOptions.maxSeqLen,
  evalPrompts: option.integer(128, 'different prompts that are answered, spread evenly over the rows; 0 = none', { min: 0 }),
  maxPromptSeqLen: option.integer(256, 'longest prompt that is answered; longer ones are passed over and counted', { min: 1, unit: 'tokens' }),
  ...drawing(plainDrawing),
  // one limit for both models, whatever their generation_config.json says
  maxNewTokens: option.integer(plainDrawing.maxNewTokens, 'longest answer', { min: 1, unit: 'tokens' }),
  batchSize: generateOptions.batchSize,
  batchTokens: scoreOptions.batchTokens,
  outputDir: option.optionalText('folder for eval.json, samples.jsonl and report.html; without it nothing is kept'),
  ...computeOptions,
}
