// `score` and `generate` over files: rows in, rows out, in the same order.
import { open, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

import { Interrupted, UsageError, fail } from '../base/errors.js'
import { atomicFile, failOnFile, makeFolder } from '../base/files.js'
import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { readDataset } from '../data/readers.js'
import type { RawRow } from '../data/records.js'
import { describe, shapeName } from '../data/records.js'
import { RowEncoder } from '../data/rowIds.js'
import type { DType } from '../tensor/device.js'
import { ensembleScores } from '../rlhf/ensembleScores.js'
import { Scope } from '../tensor/scope.js'
import { Model } from './model.js'
import type { Answer, Score } from './model.js'
import { hubHooks, silent } from './shared.js'
import { generateOptions, scoreOptions } from './useOptions.js'

/** Takes one line of JSON at a time; default: kept in the result. */
export type Sink = (line: string) => void

export interface ScoreResult {
  rows: number
  tokens: number
  /** Mean log-prob of a language model, mean score of a reward model. */
  mean: number | null
  kind: 'logprobs' | 'values'
  output: string | null
}

/** The rows that were read are not written over. */
function refuseOverInput({ input, output }: { input: string | null; output: string | null }): void {
  if (input !== null && output !== null && resolve(input) === resolve(output)) throw new UsageError('--output', 'another file than --input', output, 'another name')
}

/** Scores the rows of a file. Errors name file, line and position of an id outside the vocabulary. */
export async function score(given: Given<typeof scoreOptions>, hooks: RunHooks = silent, sink: Sink = () => undefined): Promise<ScoreResult> {
  const options = resolveOptions('score', scoreOptions, given)
  refuseOverInput(options)
  const raw = await rowsOf(options.input, options.columns, hooks)
  using model = await openModel(options, hooks)
  using scope = new Scope()
  const others: Model[] = []
  for (const folder of options.rewardEnsemble) others.push(sameKind(model, scope.own(await openModel({ ...options, model: folder }, hooks)), folder))
  const rows = raw.map((row) => scoreIds(model, row))
  const result: ScoreResult = { rows: 0, tokens: 0, mean: null, kind: model.isRewardModel ? 'values' : 'logprobs', output: options.output }
  let sum = 0
  let count = 0
  await writeLines(options.output, sink, hooks, async (write) => {
    hooks.progress.start()
    const passes = others.map((other) => other.scores(rows, { batchTokens: options.batchTokens, ...signalOf(hooks) }))
    for await (const scores of model.scores(rows, { batchTokens: options.batchTokens, ...signalOf(hooks) })) {
      // the passes depend on the rows alone: those of all models are the same
      const beside: (readonly Score[])[] = []
      for (const pass of passes) beside.push((await pass.next()).value as Score[])
      for (const s of passes.length > 0 ? joined([scores, ...beside]) : scores) {
        const numbers = 'logprobs' in s ? s.logprobs : [s.score]
        for (const x of numbers) sum += x
        count += numbers.length
        result.tokens += s.inputIds.length
        await write(scoreLine(s, raw[result.rows++]!))
        hooks.progress.update('score', result.rows, rows.length, [`${result.tokens} tokens`])
      }
    }
  })
  return { ...result, mean: count > 0 ? sum / count : null }
}

/** {text}: special tokens as the tokenizer adds them. {prompt, response}: the prompt with them, the response without. No end token is added. */
function scoreIds(model: Model, row: RawRow): Int32Array {
  const encoder = encoderOf(model)
  const ids = ((): Int32Array => {
    if (row.kind === 'text' && model.tokenizer) return encoder.checkedIds(row, model.tokenizer.encode(row.text, { special: true }))
    if (row.kind === 'ids' || row.kind === 'text' || row.kind === 'response' || row.kind === 'messages')
      return Int32Array.from(encoder.whole(row).flatMap((s) => Array.from(s.ids)))
    return fail('score', `{input_ids}, {text} or {prompt, response} in ${describe(row.at)}`, shapeName(row), 'rows of one of these shapes')
  })()
  if (ids.length === 0) fail('score', `at least one token in ${describe(row.at)}`, 'an empty text', 'leaving the row out')
  if (ids.length > model.maxPositions) fail('score', `at most the model's ${model.maxPositions} positions in ${describe(row.at)}`, `${ids.length} tokens`, 'a shorter row')
  return ids
}

/** Error: --reward-ensemble with anything but reward models of one vocabulary. */
function sameKind(first: Model, other: Model, folder: string): Model {
  if (!first.isRewardModel || !other.isRewardModel) fail('--reward-ensemble', 'reward models only', `a language model${first.isRewardModel ? ` in ${folder}` : ' as --model'}`, 'models that `threefold reward` has trained')
  if (first.vocabSize !== other.vocabSize) fail('--reward-ensemble', `the vocabulary of --model (${first.vocabSize})`, `${other.vocabSize} in ${folder}`, 'reward models trained with the same tokenizer')
  return other
}

type EnsembleScore = Extract<Score, { score: number }> & { scores: readonly number[]; spread: number }

/** The same rows by several reward models; `values` are those of the first. */
function joined(models: readonly (readonly Score[])[]): EnsembleScore[] {
  const all = models as readonly (readonly Extract<Score, { score: number }>[])[]
  const { scores, spreads } = ensembleScores(all.map((model) => Float64Array.from(model, (s) => s.score)), 0)
  return all[0]!.map((s, i) => ({ ...s, score: scores[i]!, scores: all.map((model) => model[i]!.score), spread: spreads[i]! }))
}

function scoreLine(s: Score | EnsembleScore, row: RawRow): string {
  const input_ids = Array.from(s.inputIds)
  if ('logprobs' in s) return JSON.stringify({ input_ids, logprobs: floats(s.logprobs, row) })
  const line = { input_ids, values: floats(s.values, row), score: floats([s.score], row)[0] }
  return JSON.stringify('scores' in s ? { ...line, scores: floats(s.scores, row), spread: floats([s.spread], row)[0] } : line)
}

/** Nine digits give every fp32 back exactly. */
function floats(values: ArrayLike<number>, row: RawRow): number[] {
  return Array.from(values, (x, t) => {
    if (Number.isFinite(x)) return Number(x.toPrecision(9))
    return fail('model', `finite numbers for ${describe(row.at)}`, `${x} at position ${t}`, 'a model whose weights are finite; it may have been trained with too high a learning rate')
  })
}

export interface GenerateResult {
  answers: { outputIds: number[]; text: string | null; logprobs: number[]; finish: 'stop' | 'length' }[]
  tokens: number
  seconds: number
  output: string | null
}

/** Answers one prompt or the prompts of a file. */
export async function generate(given: Given<typeof generateOptions>, hooks: RunHooks = silent, sink: Sink = () => undefined): Promise<GenerateResult> {
  const options = resolveOptions('generate', generateOptions, given)
  const { prompt, input, output } = options
  if ((prompt === null) === (input === null))
    throw new UsageError('generate', 'either --prompt or --input', prompt === null ? 'neither' : 'both', '--prompt "..." or --input prompts.jsonl')
  refuseOverInput(options)
  const at = { file: '--prompt', line: 1, unit: 'row' } as const
  const raw: readonly RawRow[] = input === null ? [{ kind: 'prompt', prompt: prompt!, at }] : await rowsOf(input, options.columns, hooks)
  const rowSeeds = raw.map(seedOf)
  using model = await openModel(options, hooks)
  noteIgnored(model, hooks)
  const prompts = raw.map((row) => promptIds(model, row))
  const sampling = { ...options, rowSeeds, logitBias: parseLogitBias(options.logitBias), stopIds: parseIds(options.stopIds) }
  const total = prompts.length * options.numReturnSequences
  const waiting = new Map<number, Answer>()
  const result: GenerateResult = { answers: [], tokens: 0, seconds: 0, output }
  const started = performance.now()
  await writeLines(output, sink, hooks, async (write) => {
    hooks.progress.start()
    for await (const { index, answer } of model.answers(prompts, { ...sampling, ...signalOf(hooks) })) {
      waiting.set(index, answer)
      // finished rows come in any order; lines are written in the order of the input
      for (let next = result.answers.length; waiting.has(next); next++) {
        const { outputIds, text, logprobs, finish } = waiting.get(next)!
        waiting.delete(next)
        const done = { outputIds: Array.from(outputIds), text, logprobs: floats(logprobs, raw[Math.floor(next / options.numReturnSequences)]!), finish }
        result.answers.push(done)
        result.tokens += outputIds.length
        await write(JSON.stringify({ output_ids: done.outputIds, text, logprobs: done.logprobs, finish }))
      }
      hooks.progress.update('generate', result.answers.length, total, [`${result.tokens} tokens`])
    }
  })
  return { ...result, seconds: (performance.now() - started) / 1000 }
}

/** Says which fields of generation_config.json have no meaning here. */
export function noteIgnored({ generationConfig: { ignored } }: Model, hooks: RunHooks): void {
  if (ignored.length > 0) hooks.progress.note(`generation_config.json asks for ${ignored.join(', ')}, which is not there: answers are drawn without`)
}

/** ["50256=-100", "11=2.5"] -> ids and what is added to their logits. */
export function parseLogitBias(pairs: readonly string[]): Map<number, number> {
  return new Map(
    pairs.map((pair) => {
      const [, id, bias] = /^(\d+)=(-?inf|[-+]?[\d.]+(?:e[-+]?\d+)?)$/i.exec(pair) ?? []
      const value = /^-inf$/i.test(bias ?? '') ? -Infinity : Number(bias)
      if (id === undefined || Number.isNaN(value)) throw new UsageError('--logit-bias', 'id=bias with a token id and a number', JSON.stringify(pair), '--logit-bias 50256=-100')
      return [Number(id), value]
    }),
  )
}

/** ["50256"] -> ids. */
export function parseIds(words: readonly string[]): number[] {
  return words.map((word) => {
    if (!/^\d+$/.test(word)) throw new UsageError('--stop-ids', 'token ids', JSON.stringify(word), '--stop-ids 50256')
    return Number(word)
  })
}

function promptIds(model: Model, row: RawRow): Int32Array {
  const ids = encoderOf(model).promptOnly(row)
  if (ids.length >= model.maxPositions)
    fail('generate', `a prompt shorter than the model's ${model.maxPositions} positions in ${describe(row.at)}`, `${ids.length} tokens`, 'a shorter prompt')
  return ids
}

const encoderOf = (model: Model): RowEncoder => new RowEncoder({ tokenizer: model.tokenizer, vocabSize: model.vocabSize, appendEos: false })

/** Rows in the file's order; a row without meaning would shift the output, so it is refused. */
async function rowsOf(input: string, columns: string | null, hooks: RunHooks): Promise<readonly RawRow[]> {
  const { rows, skipped } = await readDataset(input, { columns, hub: hubHooks(hooks) })
  if (skipped > 0) fail('data', `rows with a prompt in ${input}`, `${skipped} whose two texts share no "Assistant:"`, 'rows {prompt}, {text} or {input_ids}')
  return rows
}

/** Opens a model with the flags of a command. */
export function openModel(options: { model: string; device: string; dtype: string; threads: number }, hooks: RunHooks): Promise<Model> {
  return Model.load(options.model, { device: options.device, dtype: options.dtype as DType, threads: options.threads, ...hubHooks(hooks) })
}

/** A row's own seed, so that its answer does not depend on where it stands. */
export function seedOf({ seed = null, at }: RawRow): number | null {
  if (seed === null || (Number.isSafeInteger(seed) && (seed as number) >= 0)) return seed as number | null
  return fail('data', `a whole number of 0 or more as "seed" in ${describe(at)}`, JSON.stringify(seed), 'leaving it out: --seed and the place of the row then decide')
}

export const signalOf = ({ signal }: RunHooks): { signal?: AbortSignal } => (signal ? { signal } : {})

/**
 * Lines go to a file that appears whole at the end, to a pipe or device as they come, or to the sink. Ctrl-C ends the
 * work; the file then holds the rows that were done, the first ones of the input.
 */
async function writeLines(output: string | null, sink: Sink, hooks: RunHooks, body: (write: (line: string) => Promise<void>) => Promise<void>): Promise<void> {
  if (output === null) return body(async (line) => sink(line))
  let stopped = false
  await makeFolder(dirname(output)).catch((error: unknown) => failOnFile(error, `to make the folder of ${output}`))
  const into = async (path: string, flags: string): Promise<void> => {
    const handle = await open(path, flags)
    try {
      await body(async (line) => void (await handle.write(line + '\n'))).catch((error: unknown) => {
        if (!hooks.signal?.aborted) throw error
        stopped = true
      })
    } finally {
      await handle.close()
    }
  }
  const there = await stat(output).catch(() => null)
  // renaming a file over a folder fails only when the work is done; over /dev/null it would replace the device
  if (there === null || there.isFile()) await atomicFile(output, (temporary) => into(temporary, 'wx'))
  else await into(output, 'w').catch((error: unknown) => failOnFile(error, `to write ${output}`))
  if (stopped) throw new Interrupted(output)
}
