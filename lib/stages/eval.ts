// `threefold eval`: perplexity of a model, answers of one or two to the same prompts, a reward model's judgement of them.
import { join } from 'node:path'

import { Interrupted, UsageError, fail } from '../base/errors.js'
import { ensureWritable, pathExists, writeFileAtomic, writeJson } from '../base/files.js'
import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import type { PairRow, TokenRow } from '../data/records.js'
import { Turns, answerKind, pairKind } from '../data/tokenize.js'
import type { AnswerFigures, ComparisonFigures, EvalAnswer, PerplexityFigures, RewardFigures, Winner } from './evalFigures.js'
import { answerFigures, comparisonFigures, winnerOf } from './evalFigures.js'
import type { Candidate, EvalOptions } from './evalModels.js'
import { answerPrompts, load, measurePerplexity, measureReward, openCandidate, scoreAnswers, tokenRows } from './evalModels.js'
import { evalOptions } from './evalOptions.js'
import { evalReport } from './evalReport.js'
import type { EvalPrompt, EvalRows } from './evalRows.js'
import { readEvalRows, spreadOrder } from './evalRows.js'
import type { PromptText } from './promptText.js'
import { parseIds, parseLogitBias } from './score.js'
import { silent } from './shared.js'

/** One language model. */
export interface ModelFigures {
  name: string
  /** Null without rows of text or answers. */
  perplexity: PerplexityFigures | null
  /** Null without prompts. */
  answers: AnswerFigures | null
}

export interface EvalResult {
  model: ModelFigures | null
  against: ModelFigures | null
  /** The reward model; pairs: null without rows of two answers. */
  reward: { name: string; pairs: RewardFigures | null } | null
  /** Model over against under the reward model; null unless all three are there. */
  comparison: ComparisonFigures | null
  rows: { read: number; skipped: number; prompts: number; answered: number; promptsTooLong: number; unscored: number }
  settings: EvalOptions
  seconds: number
  outputDir: string | null
}

/** One line of samples.jsonl. With two models `threefold label` takes it as it stands: it reads prompt and responses. */
export interface EvalSample {
  prompt: PromptText
  /** Of the model and, where there is one, of the other. */
  responses: string[]
  models: string[]
  tokens: number[]
  finish: ('stop' | 'length')[]
  /** Null without a reward model, and where an answer does not fit into it. */
  scores: (number | null)[]
  winner: Winner | null
}

/**
 * Measures what the given models and rows allow. Every prompt has one seed, so both models draw with the same random numbers, and
 * nothing depends on batch sizes or threads. Errors: models of the wrong kind and settings that fit no prompt, before any work;
 * Interrupted after Ctrl-C, with nothing written.
 */
export async function evaluate(given: Given<typeof evalOptions>, hooks: RunHooks = silent): Promise<EvalResult> {
  const options = resolveOptions('eval', evalOptions, given)
  return measure(options, hooks).catch((error: unknown) => {
    throw hooks.signal?.aborted ? new Interrupted(null) : error
  })
}

async function measure(options: EvalOptions, hooks: RunHooks): Promise<EvalResult> {
  const started = performance.now()
  if (options.model === null && options.rewardModel === null) throw new UsageError('eval', '--model or --reward-model', 'neither', '--model with a language model, --reward-model with a reward model, or both')
  if (options.model === null && options.against !== null) throw new UsageError('--against', '--model beside it', 'none', '--model with the model that is to be compared')
  parseLogitBias(options.logitBias)
  parseIds(options.stopIds)
  if (options.outputDir !== null) {
    if (await pathExists(join(options.outputDir, 'metrics.jsonl'))) fail('--output-dir', 'a folder of its own', `${options.outputDir} with the samples of a run`, 'another name')
    await ensureWritable(options.outputDir)
  }
  const model = options.model === null ? null : await openCandidate('--model', options.model, 'logprob', hooks)
  const against = options.against === null ? null : await openCandidate('--against', options.against, 'logprob', hooks)
  const judge = options.rewardModel === null ? null : await openCandidate('--reward-model', options.rewardModel, 'scalar', hooks)
  const rows = await readEvalRows(options.dataPath, options.columns, hooks)
  const speakers = [model, against].filter((c) => c !== null)
  const { prompts, tooLong } = speakers.length === 0 ? { prompts: [], tooLong: 0 } : await choosePrompts(rows.prompts, [...speakers, ...(judge ? [judge] : [])], options)
  expectWork(rows, prompts, { model, judge }, options)
  if (tooLong > 0) hooks.progress.note(`eval: passed over ${tooLong} prompt${tooLong === 1 ? '' : 's'} over the limit of --max-prompt-seq-len ${options.maxPromptSeqLen} or of a model's positions`)

  // all rows become tokens first: one that no model can read ends the work before it begins
  const texts: TokenRow[][] = []
  for (const speaker of speakers) texts.push(rows.texts.length === 0 ? [] : await tokenRows(answerKind, rows.texts, speaker, options, hooks))
  const pairs = judge === null || rows.pairs.length === 0 ? [] : await tokenRows(pairKind, rows.pairs, judge, options, hooks)
  const spoken: Spoken[] = []
  for (const [s, speaker] of speakers.entries()) spoken.push(await hear(speaker, texts[s]!, prompts, options, hooks))
  const judged = judge && (await judgeAll(judge, pairs, prompts, spoken, options, hooks))
  const samples = prompts.map((prompt, i) => sampleOf(prompt, spoken, judged?.scores.map((scores) => scores[i]!) ?? null, i))

  const scored = samples.filter(({ scores }) => scores.every((s) => s !== null)) as (EvalSample & { scores: number[] })[]
  const scoresOf = (speaker: number): number[] => scored.map(({ scores }) => scores[speaker]!)
  const figures = spoken.map(({ name, perplexity, answers }, s) => ({ name, perplexity, answers: answers.length === 0 ? null : answerFigures(answers, judge && scoresOf(s)) }))
  const result: EvalResult = {
    model: figures[0] ?? null,
    against: figures[1] ?? null,
    reward: judge && judged && { name: judge.name, pairs: judged.pairs },
    comparison: judge && against && scored.length > 0 ? comparisonFigures(scoresOf(0), scoresOf(1)) : null,
    rows: { read: rows.rows, skipped: rows.skipped, prompts: rows.prompts.length, answered: prompts.length, promptsTooLong: tooLong, unscored: judge ? samples.length - scored.length : 0 },
    settings: options,
    seconds: (performance.now() - started) / 1000,
    outputDir: options.outputDir,
  }
  if (options.outputDir !== null) await writeResult(options.outputDir, result, samples)
  return result
}

/** As many as are asked for, spread evenly, of those that leave room for an answer in every model; tooLong: those met that do not. */
async function choosePrompts(all: readonly EvalPrompt[], candidates: readonly Candidate[], { evalPrompts, maxPromptSeqLen, maxNewTokens }: EvalOptions): Promise<{ prompts: EvalPrompt[]; tooLong: number }> {
  if (evalPrompts === 0 || all.length === 0) return { prompts: [], tooLong: 0 }
  // the reward model also sees an end token
  const room = Math.min(...candidates.map((c) => c.maxPositions)) - maxNewTokens - 1
  if (room < 1) fail('--max-new-tokens', `an answer that leaves room for a prompt in ${room + maxNewTokens + 1} positions, the least of the models`, String(maxNewTokens), 'a smaller --max-new-tokens')
  const limit = Math.min(maxPromptSeqLen, room)
  const fitting: number[] = []
  let tooLong = 0
  const turns = new Turns()
  for (const place of spreadOrder(all.length)) {
    if (fitting.length === evalPrompts) break
    if (candidates.every(({ encoder }) => encoder.promptOnly(all[place]!.row).length <= limit)) fitting.push(place)
    else tooLong++
    await turns.next()
  }
  if (fitting.length === 0) fail('data', `a prompt of at most ${limit} tokens`, `${all.length} longer ones`, 'a larger --max-prompt-seq-len, a smaller --max-new-tokens, or --eval-prompts 0')
  return { prompts: fitting.sort((a, b) => a - b).map((place) => all[place]!), tooLong }
}

/** Error: rows of which nothing can be measured with these models. */
function expectWork({ texts, pairs }: EvalRows, prompts: readonly EvalPrompt[], { model, judge }: { model: Candidate | null; judge: Candidate | null }, options: EvalOptions): void {
  if ((model && (texts.length > 0 || prompts.length > 0)) || (judge && pairs.length > 0)) return
  const wanted = model ? 'rows with a text, an answer or a prompt' : 'rows {prompt, chosen, rejected} for a reward model alone'
  fail('data', `${wanted} in ${options.dataPath.join(' ')}`, 'none', model ? 'other rows, or --eval-prompts above 0' : 'pairs, or --model with a model whose answers it scores')
}

/** What one language model was heard to say. */
interface Spoken {
  name: string
  perplexity: PerplexityFigures | null
  answers: EvalAnswer[]
}

async function hear(speaker: Candidate, texts: readonly TokenRow[], prompts: readonly EvalPrompt[], options: EvalOptions, hooks: RunHooks): Promise<Spoken> {
  using model = await load(speaker, options, hooks)
  const perplexity = texts.length === 0 ? null : await measurePerplexity(model, speaker.name, texts, options, hooks)
  return { name: speaker.name, perplexity, answers: prompts.length === 0 ? [] : await answerPrompts(model, speaker, prompts, options, hooks) }
}

/** The judge's figures on pairs, and its scores [speakers][prompts] of what was said. */
async function judgeAll(judge: Candidate, pairs: readonly PairRow[], prompts: readonly EvalPrompt[], spoken: readonly Spoken[], options: EvalOptions, hooks: RunHooks): Promise<{ pairs: RewardFigures | null; scores: (number | null)[][] }> {
  using model = await load(judge, options, hooks)
  const figures = pairs.length === 0 ? null : await measureReward(model, pairs, options, hooks)
  const scores: (number | null)[][] = []
  for (const { name, answers } of spoken) scores.push(await scoreAnswers(model, judge, prompts, answers, `scores of ${name}`, options, hooks))
  return { pairs: figures, scores }
}

function sampleOf({ prompt }: EvalPrompt, spoken: readonly Spoken[], scores: (number | null)[] | null, i: number): EvalSample {
  const said = spoken.map(({ answers }) => answers[i]!)
  const [score, other] = scores ?? []
  return {
    prompt,
    responses: said.map((a) => a.text),
    models: spoken.map(({ name }) => name),
    tokens: said.map((a) => a.tokens),
    finish: said.map((a) => a.finish),
    scores: scores ?? said.map(() => null),
    winner: typeof score === 'number' && typeof other === 'number' ? winnerOf(score, other) : null,
  }
}

async function writeResult(folder: string, result: EvalResult, samples: readonly EvalSample[]): Promise<void> {
  await writeJson(join(folder, 'eval.json'), result)
  await writeFileAtomic(join(folder, 'samples.jsonl'), samples.map((sample) => JSON.stringify(sample) + '\n').join(''))
  await writeFileAtomic(join(folder, 'report.html'), evalReport(result, samples))
}
