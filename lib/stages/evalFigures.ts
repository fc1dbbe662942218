// The figures of an evaluation, from log-probs, answers and scores alone.
import type { Interval } from '../base/inference.js'
import { quantile, ratioOfSums, signTest, studentInterval } from '../base/inference.js'
import { RunningSums, normal95, pairedDifference, wilsonInterval } from '../base/statistics.js'
import { logSigmoid, sigmoid } from '../rlhf/logSigmoid.js'
import { perplexity } from '../rlhf/tokenLoss.js'

export interface PerplexityFigures {
  perplexity: number
  /** 95 %, of rows as observations; null for a single row. */
  interval: Interval | null
  /** Nats per counted token, and its standard error. */
  loss: number
  standardError: number | null
  rows: number
  tokens: number
}

/** From each row's summed loss and its number of counted tokens. */
export function perplexityFigures(losses: readonly number[], tokens: readonly number[]): PerplexityFigures {
  const { ratio: loss, standardError } = ratioOfSums(losses, tokens)
  const known = Number.isFinite(standardError)
  return {
    perplexity: perplexity(loss),
    interval: known ? [perplexity(loss - normal95 * standardError), perplexity(loss + normal95 * standardError)] : null,
    loss,
    standardError: known ? standardError : null,
    rows: losses.length,
    tokens: tokens.reduce((a, b) => a + b, 0),
  }
}

/** One answer to a prompt. */
export interface EvalAnswer {
  text: string
  /** New tokens, the end token included. */
  tokens: number
  finish: 'stop' | 'length'
}

export interface AnswerFigures {
  answers: number
  /** Share of different n-grams of words among all of them, n = 1, 2, 3; null where no answer has n words. */
  distinct: [number | null, number | null, number | null]
  /** Tokens of an answer, the end token included. */
  length: { mean: number; median: number; p95: number }
  /** Share of answers that their limit cut, with its Wilson interval. */
  cut: { share: number; interval: Interval }
  /** Of the reward model. */
  score: MeanFigures | null
}

export interface MeanFigures {
  mean: number
  /** Null for a single figure, which tells no spread. */
  standardError: number | null
  /** 95 %, Student's t. */
  interval: Interval | null
}

const meanFigures = (mean: number, standardError: number, n: number): MeanFigures => ({ mean, standardError: n < 2 ? null : standardError, interval: studentInterval(mean, standardError, n) })

/** `scores`: of the answers that could be scored; null without a reward model. */
export function answerFigures(answers: readonly EvalAnswer[], scores: readonly number[] | null): AnswerFigures {
  const lengths = answers.map((a) => a.tokens)
  const cut = answers.filter((a) => a.finish === 'length').length
  const words = answers.map((a) => wordsOf(a.text))
  const sums = new RunningSums().addAll(scores ?? [])
  return {
    answers: answers.length,
    distinct: [distinctShare(words, 1), distinctShare(words, 2), distinctShare(words, 3)],
    length: { mean: new RunningSums().addAll(lengths).mean, median: quantile(lengths, 0.5), p95: quantile(lengths, 0.95) },
    cut: { share: cut / answers.length, interval: wilsonInterval(cut, answers.length) },
    score: sums.count === 0 ? null : meanFigures(sums.mean, sums.standardError, sums.count),
  }
}

/** Words in lower case, marks on their own; each character of a script that writes no spaces is a word. */
function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}]|(?:(?![\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}])[\p{L}\p{M}\p{N}_'])+|[^\s\p{L}\p{M}\p{N}_']/gu) ?? []
}

/** distinct-n: different n-grams over all n-grams of all answers (Li et al. 2016, section 5.2). It falls with the amount of text. */
export function distinctShare(answers: readonly (readonly string[])[], n: number): number | null {
  const seen = new Set<string>()
  let total = 0
  for (const words of answers)
    for (let end = n; end <= words.length; end++) {
      // no word holds a space
      seen.add(words.slice(end - n, end).join(' '))
      total++
    }
  return total === 0 ? null : seen.size / total
}

export type Winner = 'model' | 'against' | 'tie'

export interface ComparisonFigures {
  prompts: number
  /** Prompts on which the model's answer scores higher, lower, or the same. */
  wins: number
  losses: number
  ties: number
  /** (wins + ties / 2) / prompts, with its Wilson interval. */
  winRate: number
  interval: Interval
  /** Two-sided exact sign test; ties are left out. */
  signTest: number
  /** Score of the model's answer less that of the other on the same prompt. */
  difference: MeanFigures
}

export const winnerOf = (score: number, other: number): Winner => (score > other ? 'model' : score < other ? 'against' : 'tie')

/** Scores [n] of both models' answers to the same prompts. */
export function comparisonFigures(scores: readonly number[], others: readonly number[]): ComparisonFigures {
  const { mean, standardError } = pairedDifference(scores, others)
  const count = (winner: Winner): number => scores.filter((s, i) => winnerOf(s, others[i]!) === winner).length
  const [wins, losses, ties] = [count('model'), count('against'), count('tie')]
  const hits = wins + ties / 2
  return { prompts: scores.length, wins, losses, ties, winRate: hits / scores.length, interval: wilsonInterval(hits, scores.length), signTest: signTest(wins, losses), difference: meanFigures(mean, standardError, scores.length) }
}

export interface RewardFigures {
  pairs: number
  /** Share of pairs in which the chosen answer scores higher, a tie counting half, with its Wilson interval. */
  accuracy: number
  interval: Interval
  /** Mean of -log sigmoid(chosen - rejected). */
  loss: number
  /** Mean scores. */
  chosen: number
  rejected: number
  /** Chosen less rejected. */
  margin: MeanFigures
  /** Null below 50 pairs, of which a bin would hold a few. */
  calibration: Calibration | null
}

export interface Calibration {
  /** Expected calibration error (Guo et al. 2017): mean distance of accuracy from confidence, weighted by pairs. */
  error: number
  /** Pairs by the model's confidence sigmoid(|chosen - rejected|), five bins from 0.5 to 1; empty ones are left out. */
  bins: { low: number; high: number; pairs: number; confidence: number; accuracy: number }[]
}

const fewestCalibrated = 50
const binCount = 5

/** Scores [n] of chosen and rejected answers. */
export function rewardFigures(chosen: readonly number[], rejected: readonly number[]): RewardFigures {
  const margins = chosen.map((c, i) => c - rejected[i]!)
  const n = margins.length
  const hits = margins.reduce((sum, m) => sum + hit(m), 0)
  const { mean, standardError } = pairedDifference(chosen, rejected)
  const meanOf = (values: readonly number[]): number => new RunningSums().addAll(values).mean
  return {
    pairs: n,
    accuracy: hits / n,
    interval: wilsonInterval(hits, n),
    loss: -meanOf(margins.map(logSigmoid)),
    chosen: meanOf(chosen),
    rejected: meanOf(rejected),
    margin: meanFigures(mean, standardError, n),
    calibration: n < fewestCalibrated ? null : calibrationOf(margins),
  }
}

const hit = (margin: number): number => (margin > 0 ? 1 : margin === 0 ? 0.5 : 0)

function calibrationOf(margins: readonly number[]): Calibration {
  const bins = Array.from({ length: binCount }, (_, b) => {
    const [low, high] = [0.5 + b / (2 * binCount), 0.5 + (b + 1) / (2 * binCount)]
    const inside = margins.filter((m) => Math.min(binCount - 1, Math.floor((sigmoid(Math.abs(m)) - 0.5) * 2 * binCount)) === b)
    const mean = (of: (m: number) => number): number => inside.reduce((sum, m) => sum + of(m), 0) / inside.length
    return { low, high, pairs: inside.length, confidence: mean((m) => sigmoid(Math.abs(m))), accuracy: mean(hit) }
  }).filter((bin) => bin.pairs > 0)
  return { error: bins.reduce((sum, { pairs, confidence, accuracy }) => sum + pairs * Math.abs(accuracy - confidence), 0) / margins.length, bins }
}
