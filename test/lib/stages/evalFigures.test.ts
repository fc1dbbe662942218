// The figures against hand-computed cases and SciPy; the report's text can do nothing but be read.
import { runInNewContext } from 'node:vm'

import test from 'ava'

import type { EvalResult, EvalSample } from '../../../lib/stages/eval.js'
import { answerFigures, comparisonFigures, distinctShare, perplexityFigures, rewardFigures, winnerOf } from '../../../lib/stages/evalFigures.js'
import { escapeHtml, evalReport } from '../../../lib/stages/evalReport.js'
import { spreadOrder } from '../../../lib/stages/evalRows.js'
import { summaryTables } from '../../../lib/stages/evalSummary.js'
import { gap } from '../rlhf/support.js'

test('perplexity is the mean over tokens, not over rows, and its interval takes rows as observations', (t) => {
  // loss 12 / 6; standard error sqrt(3) / 6 (see ratioOfSums)
  const figures = perplexityFigures([2, 5, 5], [1, 2, 3])
  t.true(gap([figures.loss, figures.perplexity, figures.standardError!], [2, Math.exp(2), Math.sqrt(3) / 6]) < 1e-14)
  t.true(gap(figures.interval!, [Math.exp(2 - (1.959963984540054 * Math.sqrt(3)) / 6), Math.exp(2 + (1.959963984540054 * Math.sqrt(3)) / 6)]) < 1e-14)
  t.like(figures, { rows: 3, tokens: 6 })
  t.true(gap(figures.loss, (2 / 1 + 5 / 2 + 5 / 3) / 3) > 1e-2, 'a mean of rows is told apart')
  t.like(perplexityFigures([3], [2]), { loss: 1.5, standardError: null, interval: null })
})

test('distinct-n by hand', (t) => {
  // bigrams: a b, b a, a b | b b: 3 of 4
  t.is(distinctShare([['a', 'b', 'a', 'b'], ['b', 'b']], 2), 3 / 4)
  t.is(distinctShare([['a', 'b', 'a', 'b'], ['b', 'b']], 1), 2 / 6)
  t.is(distinctShare([['a']], 2), null, 'no n-gram crosses from one answer to the next')
  const of = (...texts: string[]) => answerFigures(texts.map((text) => ({ text, tokens: 1, finish: 'stop' as const })), null).distinct[0]
  t.is(of("Don't, don't."), 3 / 4, "don't , don't .")
  t.is(of('你好你好'), 2 / 4)
  t.is(of('été été'), 1 / 2)
})

test('lengths, cut answers and scores of answers', (t) => {
  const answers = [3, 1, 4, 1, 5, 9, 2, 6].map((tokens, i) => ({ text: 'x', tokens, finish: i < 2 ? ('length' as const) : ('stop' as const) }))
  const figures = answerFigures(answers, [1, 2, 3, 4])
  t.true(gap([figures.length.mean, figures.length.median, figures.length.p95], [31 / 8, 3.5, 7.95]) < 1e-14)
  t.is(figures.cut.share, 0.25)
  // scipy.stats.t.interval(0.95, 3, 2.5, sem([1, 2, 3, 4]))
  t.true(gap([figures.score!.mean, figures.score!.standardError!, ...figures.score!.interval!], [2.5, 0.6454972243679028, 0.4457397432394794, 4.554260256760521]) < 1e-11)
  t.is(answerFigures(answers, null).score, null)
})

test('wins, ties and the paired difference', (t) => {
  const figures = comparisonFigures([3, 2, 5, 1, 7], [1, 2, 4, 2, 3])
  t.like(figures, { prompts: 5, wins: 3, losses: 1, ties: 1, winRate: 0.7, signTest: 0.625 })
  // differences 2, 0, 1, -1, 4: scipy.stats.t.interval(0.95, 4, 1.2, sem)
  t.true(gap([figures.difference.mean, figures.difference.standardError!, ...figures.difference.interval!], [1.2, 0.860232526704262, -1.1883883880999802, 3.58838838809998]) < 1e-11)
  t.deepEqual([winnerOf(2, 1), winnerOf(1, 2), winnerOf(1, 1)], ['model', 'against', 'tie'])
  const swapped = comparisonFigures([1, 2, 4, 2, 3], [3, 2, 5, 1, 7])
  t.true(gap([swapped.winRate, swapped.difference.mean, swapped.signTest], [0.3, -1.2, 0.625]) < 1e-14)
})

test('accuracy and calibration of a reward model', (t) => {
  const few = rewardFigures([1, 2, 3], [0, 2, 4])
  t.is(few.accuracy, 0.5)
  t.true(gap(few.loss, (2 * Math.log1p(Math.exp(-1)) + 1 + Math.LN2) / 3) < 1e-12)
  t.is(few.calibration, null)
  // 40 pairs at confidence sigmoid(2) = 0.8808, 30 of them right; 20 at sigmoid(0.1) = 0.5250, 10 right
  const margins = [...Array.from({ length: 40 }, (_, i) => (i < 30 ? 2 : -2)), ...Array.from({ length: 20 }, (_, i) => (i < 10 ? 0.1 : -0.1))]
  const { accuracy, calibration } = rewardFigures(margins, margins.map(() => 0))
  const [high, low] = [1 / (1 + Math.exp(-2)), 1 / (1 + Math.exp(-0.1))]
  t.is(accuracy, 40 / 60)
  t.true(gap(calibration!.error, (40 * (high - 0.75) + 20 * (low - 0.5)) / 60) < 1e-12)
  t.deepEqual(calibration!.bins.map(({ low, pairs, accuracy }) => [low, pairs, accuracy]), [[0.5, 20, 0.5], [0.8, 40, 0.75]])
  const sure = rewardFigures(Array.from({ length: 50 }, () => 1e4), new Array<number>(50).fill(0))
  t.is(sure.calibration!.error, 0, 'a confidence of 1 has its bin')
})

test('every beginning of the order of prompts is spread over the rows', (t) => {
  const order = spreadOrder(1000)
  t.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i))
  // three gaps (Steinhaus): none is more than the golden ratio's square times the mean
  for (const count of [10, 50, 128, 700]) {
    const places = [...order.slice(0, count)].sort((a, b) => a - b)
    const gaps = [...places, 1000].map((place, i) => place - (places[i - 1] ?? 0))
    t.true(Math.max(...gaps) <= (2.618 * 1000) / count + 1, `${count}: ${Math.max(...gaps)}`)
  }
})

const hostile = `</script><script>alert(1)</script><img src=x onerror="alert(2)"> ' & \u0000 \u001b[31m \u0085`
const sample = (score: number, other: number, more: object = {}): EvalSample => ({ prompt: 'p', responses: ['a', 'b'], models: ['m', 'n'], tokens: [1, 2], finish: ['stop', 'length'], scores: [score, other], winner: winnerOf(score, other), ...more })
const samples = [sample(1, 0), sample(0, 3), sample(2, 2), sample(5, 0, { prompt: [{ role: 'user', content: hostile }], responses: [hostile, 'a needle'], finish: ['stop', 'stop'] })]
const answers = answerFigures([{ text: 'a', tokens: 1, finish: 'stop' }], [1])
const result = {
  model: { name: hostile, perplexity: perplexityFigures([2, 5], [1, 2]), answers },
  against: { name: 'n', perplexity: null, answers },
  reward: { name: 'r', pairs: rewardFigures([1, 2], [0, 3]) },
  comparison: comparisonFigures([1, 0, 2, 5], [0, 3, 2, 0]),
  rows: { read: 4, skipped: 0, prompts: 4, answered: 4, promptsTooLong: 0, unscored: 0 },
  settings: { dataPath: ['d.jsonl'], seed: 1 },
} as unknown as EvalResult

test('report: one file, nothing from outside, no text becomes markup', (t) => {
  const page = evalReport(result, samples)
  t.is(page.match(/<script/g)?.length, 1)
  t.is(page.match(/<\/script/g)?.length, 1)
  t.notRegex(page, /<img|<link|<iframe|<[^>]*\son\w+=|url\(|https?:|@import/i)
  t.true(page.includes(escapeHtml(hostile)))
  t.notRegex(page, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
  t.regex(page, /default-src 'none'/)
  t.regex(page, /prefers-color-scheme:dark/)
  t.regex(page, /name="viewport"/)
  t.is(escapeHtml(`<a b='c' d="e">&`), '&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;')
  // every element that is opened is closed, in order
  const open: string[] = []
  for (const [, close, name] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)[^>]*>/g)) {
    if (['meta', 'input'].includes(name!)) continue
    if (close === '') open.push(name!)
    else t.is(open.pop(), name)
  }
  t.deepEqual(open, [])
})

test("report: the figures at the top are the summary's", (t) => {
  const page = evalReport(result, samples)
  const cells = summaryTables(result).flatMap(({ rows }) => rows.flat())
  t.true(cells.length > 30)
  for (const cell of cells) t.true(page.includes(`>${escapeHtml(cell)}<`), cell)
})

/** What the page's script does, on elements that know no more than it uses. */
function driven(choices: Record<string, string>): { places: number[]; shown: string } {
  const page = evalReport(result, samples)
  const cards = [...page.matchAll(/<article data-place="(\d+)" data-key="([^"]*)" data-winner="([^"]*)" data-cut="(\d)">(.*?)<\/article>/gs)].map(([, place, key, winner, cut, textContent]) => ({ dataset: { place, key, winner, cut }, textContent, hidden: false }))
  const list = { children: cards, order: [] as typeof cards, appendChild: (card: (typeof cards)[number]) => list.order.push(card) }
  const shown = { textContent: '' }
  const controls = { hidden: true, addEventListener: () => undefined }
  const elements: Record<string, unknown> = { controls, samples: list, shown, ...Object.fromEntries(Object.entries({ sort: 'place', show: 'all', find: '', ...choices }).map(([id, value]) => [id, { value }])) }
  runInNewContext(/<script>(.*)<\/script>/s.exec(page)![1]!, { document: { getElementById: (id: string) => elements[id] } })
  return { places: list.order.filter((c) => !c.hidden).map((c) => Number(c.dataset.place)), shown: shown.textContent }
}

test('report: sorting by the difference of scores, filtering, finding', (t) => {
  t.deepEqual(driven({}), { places: [0, 1, 2, 3], shown: '4 of 4' })
  t.deepEqual(driven({ sort: 'down' }).places, [3, 0, 2, 1])
  t.deepEqual(driven({ sort: 'up' }).places, [1, 2, 0, 3])
  t.deepEqual(driven({ sort: 'close' }).places, [2, 0, 1, 3])
  t.deepEqual(driven({ show: 'against' }), { places: [1], shown: '1 of 4' })
  t.deepEqual(driven({ show: 'tie' }).places, [2])
  t.deepEqual(driven({ show: 'cut' }).places, [0, 1, 2])
  t.deepEqual(driven({ find: 'NEEDLE' }).places, [3])
})
