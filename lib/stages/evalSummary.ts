// The figures of an evaluation as tables of text, for the terminal and for the report.
import type { Interval } from '../base/inference.js'
import { percent, short } from '../base/progress.js'
import type { EvalResult, ModelFigures } from './eval.js'
import type { ComparisonFigures, MeanFigures, RewardFigures } from './evalFigures.js'

export interface SummaryTable {
  title: string
  /** Rows of cells; the first cell says what the others are. */
  rows: string[][]
}

/** Intervals stand in brackets and are 95 % ones. */
export function summaryTables({ model, against, reward, comparison }: EvalResult): SummaryTable[] {
  const speakers = [model, against].filter((m) => m !== null)
  return [
    ...(comparison ? [comparisonTable(comparison)] : []),
    ...(speakers.length > 0 ? [speakerTable(speakers)] : []),
    ...(reward?.pairs ? [rewardTable(reward.name, reward.pairs)] : []),
  ]
}

function comparisonTable({ wins, losses, ties, winRate, interval, signTest, difference, prompts }: ComparisonFigures): SummaryTable {
  return {
    title: 'model over against',
    rows: [
      ['win rate', `${percent(winRate)} ${between(interval, percent)}`],
      ['wins, losses, ties', `${wins}, ${losses}, ${ties} of ${prompts} prompts`],
      ['sign test', `p = ${probability(signTest)}`],
      ['difference of scores', meanText(difference)],
    ],
  }
}

function speakerTable(speakers: readonly ModelFigures[]): SummaryTable {
  const row = (name: string, of: (m: ModelFigures) => string): string[] => [name, ...speakers.map(of)]
  const answered = (name: string, of: (a: NonNullable<ModelFigures['answers']>) => string): string[] => row(name, ({ answers }) => (answers ? of(answers) : '-'))
  const rows = [
    row('', ({ name }) => name),
    row('perplexity', ({ perplexity: p }) => (p ? `${short(p.perplexity)} ${between(p.interval, short)}` : '-')),
    row('tokens that count', ({ perplexity: p }) => (p ? `${p.tokens} in ${p.rows} rows` : '-')),
    answered('score', (a) => (a.score ? meanText(a.score) : '-')),
    answered('answers', (a) => String(a.answers)),
    answered('tokens: mean, median, p95', ({ length: l }) => [l.mean, l.median, l.p95].map(short).join(', ')),
    answered('cut by the limit', ({ cut }) => `${percent(cut.share)} ${between(cut.interval, percent)}`),
    answered('distinct-1, -2, -3', ({ distinct }) => distinct.map((d) => (d === null ? '-' : d.toFixed(3))).join(', ')),
  ]
  return { title: speakers.length === 2 ? 'model and against' : 'model', rows: rows.filter((r) => r.some((cell, i) => i > 0 && cell !== '-')) }
}

function rewardTable(name: string, { pairs, accuracy, interval, loss, chosen, rejected, margin, calibration }: RewardFigures): SummaryTable {
  const bins = calibration?.bins.map((b) => [`  confidence ${b.low.toFixed(1)} to ${b.high.toFixed(1)}`, `${percent(b.accuracy)} right, ${percent(b.confidence)} sure, ${b.pairs} pairs`]) ?? []
  return {
    title: 'reward model on pairs',
    rows: [
      ['', name],
      ['accuracy', `${percent(accuracy)} ${between(interval, percent)}, ${pairs} pairs`],
      ['loss', short(loss)],
      ['mean score', `chosen ${short(chosen)}, rejected ${short(rejected)}`],
      ['margin', meanText(margin)],
      ['calibration error', calibration ? percent(calibration.error) : 'not known from fewer than 50 pairs'],
      ...bins,
    ],
  }
}

const between = (interval: Interval | null, of: (x: number) => string): string => (interval ? `(${of(interval[0])} to ${of(interval[1])})` : '(no interval from a single one)')

const meanText = ({ mean, standardError, interval }: MeanFigures): string => `${short(mean)}${standardError === null ? '' : ` ± ${short(standardError)}`} ${between(interval, short)}`

const probability = (p: number): string => (p < 1e-4 ? p.toExponential(1) : p.toFixed(4))
