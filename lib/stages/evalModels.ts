// The models of an evaluation, one in memory at a time: what each says of rows, answers and scores.
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import type { Resolved } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { tokenizerFor } from '../checkpoint/model.js'
import { readConfig, storedHead } from '../checkpoint/modelFolder.js'
import { openWeights } from '../checkpoint/storedTensors.js'
import type { PairRow, RawRow, TokenRow } from '../data/records.js'
import { RowEncoder } from '../data/rowIds.js'
import { tokenizeRows } from '../data/tokenize.js'
import type { RowKind } from '../data/tokenize.js'
import type { Tokenizer } from '../data/tokenizer.js'
import { readSpec } from '../model/families/registry.js'
import type { HeadKind } from '../model/spec.js'
import type { EvalAnswer, PerplexityFigures, RewardFigures } from './evalFigures.js'
import { perplexityFigures, rewardFigures } from './evalFigures.js'
import type { evalOptions } from './evalOptions.js'
import type { EvalPrompt } from './evalRows.js'
import type { Model, Score } from './model.js'
import { describeReport } from './rows.js'
import { findModel } from './openModel.js'
import { noteIgnored, openModel, parseIds, parseLogitBias, signalOf } from './score.js'
import { hubHooks } from './shared.js'

export type EvalOptions = Resolved<typeof evalOptions>

/** A model that is known and not yet loaded. */
export interface Candidate {
  /** As the user named it. */
  name: string
  folder: string
  tokenizer: Tokenizer | null
  encoder: RowEncoder
  vocabSize: number
  maxPositions: number
}

/** Everything but the weights. Errors: as of loading; a model of the other kind, told before any work. */
export async function openCandidate(flag: string, name: string, head: HeadKind, hooks: RunHooks): Promise<Candidate> {
  const { folder, adapter } = await findModel(name, hubHooks(hooks))
  const { json } = await readConfig(folder)
  const { spec } = readSpec(json, join(folder, 'config.json'))
  const kinds = { logprob: 'a language model', scalar: 'a reward model' }
  const found = adapter ? (adapter.scalar ? 'scalar' : 'logprob') : storedHead(json, await openWeights(folder))
  if (found !== head) fail(flag, `${kinds[head]} in ${name}`, kinds[found], head === 'scalar' ? 'the folder that threefold reward wrote' : `--reward-model ${name}, or the SFT or actor model here`)
  const tokenizer = await tokenizerFor(folder, spec)
  return { name, folder, tokenizer, encoder: new RowEncoder({ tokenizer, vocabSize: spec.vocab }), vocabSize: spec.vocab, maxPositions: spec.maxPositions }
}

/** Loads a candidate's weights. */
export const load = (candidate: Candidate, options: EvalOptions, hooks: RunHooks): Promise<Model> => openModel({ ...options, model: candidate.name }, hooks)

/** Token rows within --max-seq-len and the model's positions; what is dropped is said. */
export async function tokenRows<Row>(kind: RowKind<Row>, rows: readonly RawRow[], { name, tokenizer, vocabSize, maxPositions }: Candidate, options: EvalOptions, hooks: RunHooks): Promise<Row[]> {
  const made = await tokenizeRows(kind, rows, { tokenizer, vocabSize, maxSeqLen: Math.min(options.maxSeqLen, maxPositions) })
  if (made.report.kept < made.report.rows) hooks.progress.note(describeReport(`eval, ${name}`, made.report))
  return made.rows
}

/** Scores of rows of ids, in their order. Error: scores that are not finite. */
async function scoresOf(model: Model, rows: readonly Int32Array[], what: string, options: EvalOptions, hooks: RunHooks): Promise<Score[]> {
  const out: Score[] = []
  hooks.progress.start()
  for await (const scores of model.scores(rows, { batchTokens: options.batchTokens, ...signalOf(hooks) })) {
    for (const s of scores) {
      if (!('logprobs' in s ? s.logprobs.every(Number.isFinite) : Number.isFinite(s.score)))
        fail('model', `finite numbers for every row`, `others in row ${out.length + 1} (${what})`, 'a model whose weights are finite; it may have been trained with too high a learning rate')
      out.push(s)
    }
    hooks.progress.update(`eval: ${what}`, out.length, rows.length, [])
  }
  return out
}

/** Perplexity over the counted tokens of rows. */
export async function measurePerplexity(model: Model, name: string, rows: readonly TokenRow[], options: EvalOptions, hooks: RunHooks): Promise<PerplexityFigures> {
  const scores = await scoresOf(model, rows.map((row) => row.ids), `perplexity of ${name}`, options, hooks)
  const losses = scores.map((s, i) => ('logprobs' in s ? s.logprobs.reduce((sum, lp, t) => sum - (rows[i]!.counted[t + 1] === 1 ? lp : 0), 0) : NaN))
  return perplexityFigures(losses, rows.map((row) => row.counted.reduce((a, b) => a + b, 0)))
}

/** One answer to each prompt, in their order. A prompt's random numbers are the same for every model. */
export async function answerPrompts(model: Model, candidate: Candidate, prompts: readonly EvalPrompt[], options: EvalOptions, hooks: RunHooks): Promise<EvalAnswer[]> {
  noteIgnored(model, hooks)
  const ids = prompts.map(({ row }) => candidate.encoder.promptOnly(row))
  const sampling = { ...options, rowSeeds: prompts.map(({ seed }) => seed), logitBias: parseLogitBias(options.logitBias), stopIds: parseIds(options.stopIds) }
  const answers = new Array<EvalAnswer>(prompts.length)
  let done = 0
  hooks.progress.start()
  for await (const { index, answer } of model.answers(ids, { ...sampling, ...signalOf(hooks) })) {
    answers[index] = { text: answer.text!, tokens: answer.outputIds.length, finish: answer.finish }
    hooks.progress.update(`eval: answers of ${candidate.name}`, ++done, ids.length, [])
  }
  return answers
}

/** The reward model on pairs. */
export async function measureReward(model: Model, rows: readonly PairRow[], options: EvalOptions, hooks: RunHooks): Promise<RewardFigures> {
  const scores = (await scoresOf(model, rows.flatMap((row) => [row.chosen.ids, row.rejected.ids]), 'pairs', options, hooks)).map(scoreOf)
  return rewardFigures(scores.filter((_, i) => i % 2 === 0), scores.filter((_, i) => i % 2 === 1))
}

const scoreOf = (s: Score): number => ('score' in s ? s.score : NaN)

/**
 * The reward model's score of each answer, at its last token as in training: the end token, where the answer ends by itself. Null
 * where prompt and answer do not fit into the reward model.
 */
export async function scoreAnswers(model: Model, judge: Candidate, prompts: readonly EvalPrompt[], answers: readonly EvalAnswer[], what: string, options: EvalOptions, hooks: RunHooks): Promise<(number | null)[]> {
  const rows = prompts.map(({ row }, i) => answerIds(judge, row, answers[i]!)).map((ids) => (ids.length > judge.maxPositions ? null : ids))
  const scores = (await scoresOf(model, rows.filter((ids) => ids !== null), what, options, hooks)).map(scoreOf)
  let next = 0
  return rows.map((ids) => (ids === null ? null : scores[next++]!))
}

function answerIds({ encoder, tokenizer }: Candidate, row: RawRow, { text, finish }: EvalAnswer): Int32Array {
  const prompt = encoder.promptOnly(row)
  const answer = encoder.checkedIds(row, tokenizer!.encodeBehind(prompt, text))
  const end = finish === 'stop' && tokenizer!.eosId !== null ? [tokenizer!.eosId] : []
  return Int32Array.from([...prompt, ...answer, ...end])
}
