// Options of the commands that use a model: generate, score, chat, init. Declared once, as those of the stages.
import { option } from '../base/options.js'
import { machineOptions } from './options.js'

const modelOption = { model: option.requiredText('model folder in the Hugging Face layout') }
const { seed: _seed, ...computeOptions } = machineOptions
const seedOption = { seed: option.integer(1234, 'every draw follows from it and the row', { min: 0 }) }

/** How answers are drawn. */
export const samplingOptions = {
  maxNewTokens: option.integer(128, 'longest answer', { min: 1, unit: 'tokens' }),
  greedy: option.flag(false, 'always the likeliest token; the same as --temperature 0'),
  temperature: option.number(1, 'sampling temperature; 0 = greedy', { min: 0 }),
  topK: option.integer(0, 'keep the k likeliest tokens; 0 = off', { min: 0 }),
  topP: option.number(1, 'keep the likeliest tokens up to this probability; 1 = off', { min: 0.001, max: 1 }),
  stop: option.texts('texts that end an answer; the text is cut there'),
  ...seedOption,
}

export const generateOptions = {
  ...modelOption,
  prompt: option.optionalText('one prompt'),
  input: option.optionalText('rows {prompt} or {input_ids}: a data file, a folder of them, or a hub id'),
  output: option.optionalText('JSONL file for {output_ids, text, logprobs, finish}; without it the answers go to stdout'),
  ...samplingOptions,
  batchSize: option.integer(16, 'answers decoded side by side; never changes a result', { min: 1, unit: 'rows' }),
  ...computeOptions,
}

export const scoreOptions = {
  ...modelOption,
  input: option.requiredText('rows {input_ids}, {text} or {prompt, response}: a data file, a folder of them, or a hub id'),
  output: option.optionalText('JSONL file for {input_ids, logprobs}, or {input_ids, values, score} of a reward model; without it stdout'),
  batchTokens: option.integer(4096, 'tokens per forward pass; never changes a result', { min: 1, unit: 'tokens' }),
  ...computeOptions,
}

export const chatOptions = {
  ...modelOption,
  system: option.optionalText('text before the conversation'),
  ...samplingOptions,
  maxNewTokens: option.integer(512, 'longest answer', { min: 1, unit: 'tokens' }),
  temperature: option.number(0.7, 'sampling temperature; 0 = greedy', { min: 0 }),
  topP: option.number(0.95, 'keep the likeliest tokens up to this probability; 1 = off', { min: 0.001, max: 1 }),
  ...computeOptions,
}

export const initOptions = {
  config: option.requiredText('config.json of the model to make, or the folder it is in'),
  tokenizer: option.optionalText('folder with tokenizer.json; without it the one beside config.json, if any'),
  outputDir: option.requiredText('folder of the new model'),
  seed: option.integer(1234, 'the weights follow from it', { min: 0 }),
  dtype: machineOptions.dtype,
  threads: machineOptions.threads,
}
