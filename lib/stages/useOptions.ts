// Options of the commands that use a model: generate, score, chat, init (those of eval are in evalOptions.ts). Declared once, as those of the stages.
import { option } from '../base/options.js'
import { dataOptions, machineOptions, sftOptions } from './options.js'

const modelOption = { model: option.requiredText('model folder in the Hugging Face layout, or a hub id') }
const { columns } = dataOptions
export const { seed: _seed, ...computeOptions } = machineOptions
const seedOption = { seed: option.integer(1234, 'every draw follows from it and the row', { min: 0 }) }

const orElse = (fallback: number): string => `without it as the model's generation_config.json says, else ${fallback}`

/** How answers are drawn; what is not given the model's generation_config.json decides, and then `fallback`. */
export const drawing = (fallback: { maxNewTokens: number; temperature: number; topP: number }) => ({
  maxNewTokens: option.optionalInteger(`longest answer; ${orElse(fallback.maxNewTokens)}`, { min: 1, unit: 'tokens' }),
  greedy: option.flag(false, 'always the likeliest token; the same as --temperature 0'),
  temperature: option.optionalNumber(`sampling temperature, 0 = greedy; ${orElse(fallback.temperature)}`, { min: 0 }),
  topK: option.optionalInteger(`keep the k likeliest tokens, 0 = off; ${orElse(0)}`, { min: 0 }),
  topP: option.optionalNumber(`keep the likeliest tokens up to this probability, 1 = off; ${orElse(fallback.topP)}`, { min: 0.001, max: 1 }),
  minP: option.optionalNumber(`keep tokens at least this likely relative to the likeliest, 0 = off; ${orElse(0)}`, { min: 0, max: 1 }),
  repetitionPenalty: option.optionalNumber(`divides the logits of tokens in prompt and answer, 1 = off; ${orElse(1)}`, { min: 0.01 }),
  presencePenalty: option.number(0, 'taken from the logits of tokens that the answer has', { min: -100, max: 100 }),
  logitBias: option.texts('id=bias pairs added to logits, e.g. 50256=-100 to ban a token'),
  stop: option.texts('texts that end an answer; the text is cut there'),
  stopIds: option.texts('token ids that end an answer, beside the end tokens of the model'),
  ...seedOption,
})

/** Where neither the caller nor generation_config.json says. */
export const plainDrawing = { maxNewTokens: 128, temperature: 1, topP: 1 }
export const chatDrawing = { maxNewTokens: 512, temperature: 0.7, topP: 0.95 }

export const generateOptions = {
  ...modelOption,
  prompt: option.optionalText('one prompt'),
  input: option.optionalText('rows {prompt} or {input_ids}, with a seed of their own if they like: a data file, a folder of them, or a hub id'),
  columns,
  output: option.optionalText('JSONL file for {output_ids, text, logprobs, finish}; without it the answers go to stdout'),
  ...drawing(plainDrawing),
  numReturnSequences: option.integer(1, 'answers to each prompt, one line each', { min: 1, max: 1000000 }),
  batchSize: option.integer(16, 'answers decoded side by side; never changes a result', { min: 1, unit: 'rows' }),
  ...computeOptions,
}

export const scoreOptions = {
  ...modelOption,
  input: option.requiredText('rows {input_ids}, {text} or {prompt, response}: a data file, a folder of them, or a hub id'),
  columns,
  output: option.optionalText('JSONL file for {input_ids, logprobs}, or {input_ids, values, score} of a reward model (and {scores, spread} with --reward-ensemble); without it stdout'),
  rewardEnsemble: option.texts('further reward models: the score is then the mean of all, with scores of each and their spread beside it'),
  batchTokens: option.integer(4096, 'tokens per forward pass; never changes a result', { min: 1, unit: 'tokens' }),
  ...computeOptions,
}

export const chatOptions = {
  ...modelOption,
  system: option.optionalText('text before the conversation'),
  ...drawing(chatDrawing),
  ...computeOptions,
}

export const convertOptions = {
  ...modelOption,
  outputDir: option.requiredText('folder of the converted model; may be the same one'),
  dtype: option.choice('same', ['same', 'fp32', 'bf16', 'fp16'], 'type of the weights'),
  maxShardSize: option.text('5GB', 'largest file of weights, in KB, MB, GB or KiB, MiB, GiB'),
}

export const inspectOptions = {
  ...modelOption,
  data: option.texts('data files, folders or hub ids: shows their rows token by token instead of the checkpoint'),
  columns,
  step: option.choice('sft', ['pretrain', 'sft', 'reward', 'dpo', 'ppo'], 'the step that would see the rows'),
  lossOn: sftOptions.lossOn,
  maxSeqLen: option.integer(512, 'longest row; prompts of PPO have the same limit here', { min: 2, unit: 'tokens' }),
  rows: option.integer(3, 'rows to show', { min: 0 }),
  warnRows: option.integer(1000, 'rows to look for what is odd', { min: 0 }),
}

export const resumeCheckOptions = {
  run: option.requiredText('folder of a run with two checkpoints'),
}

export const initOptions = {
  config: option.requiredText('config.json of the model to make, the folder it is in, or a hub id'),
  tokenizer: option.optionalText('folder with a tokenizer; without it the one beside config.json, if any'),
  outputDir: option.requiredText('folder of the new model'),
  seed: option.integer(1234, 'the weights follow from it', { min: 0 }),
  dtype: machineOptions.dtype,
  threads: machineOptions.threads,
}
