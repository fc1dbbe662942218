// How far labelers agree on the answers that both of them labelled.
import { fail } from '../base/errors.js'
import type { Interval, Kappa } from '../base/inference.js'
import { cohenKappa } from '../base/inference.js'
import { wilsonInterval } from '../base/statistics.js'
import { dataFiles } from '../data/folders.js'
import { jsonLines } from '../data/formats/jsonl.js'
import type { Choice, KnownLabel } from './labelRows.js'
import { choices, knownLabel } from './labelRows.js'

export interface LabelerFigures {
  labeler: string
  labels: number
  choices: Record<Choice, number>
  /** Share of left among left and right, with its Wilson interval: sides are random, so half is expected. */
  left: { share: number; interval: Interval } | null
}

/** Two labelers on the rows that both labelled and neither skipped. */
export interface PairAgreement extends Kappa {
  labelers: [string, string]
  rows: number
  /** Wilson interval of the share of agreement. */
  agreementInterval: Interval
}

export interface AgreementResult {
  labelers: LabelerFigures[]
  /** Every two labelers with rows in common. */
  pairs: PairAgreement[]
}

/** Of the same labeler and row the later label counts. Errors: lines that are no labels, fewer than two labelers, no row in common. */
export async function agreement(files: readonly string[]): Promise<AgreementResult> {
  const labels = new Map<string, Map<string, KnownLabel>>()
  for (const target of files)
    for (const file of (await dataFiles(target)).train)
      for await (const row of jsonLines(file)) {
        const label = knownLabel(row)
        if (!labels.has(label.labeler)) labels.set(label.labeler, new Map())
        labels.get(label.labeler)!.set(label.key, label)
      }
  const names = [...labels.keys()].sort()
  if (names.length < 2) fail('--agreement', `labels of two labelers or more in ${files.join(' ')}`, names.length === 0 ? 'none' : `those of ${names[0]} alone`, 'the files of all labelers')
  const pairs = names.flatMap((a, i) => names.slice(i + 1).flatMap((b) => pairAgreement([a, b], labels.get(a)!, labels.get(b)!) ?? []))
  if (pairs.length === 0) fail('--agreement', 'rows that two labelers have both labelled', 'none in common', 'the same --input for both')
  return { labelers: names.map((name) => labelerFigures(name, [...labels.get(name)!.values()])), pairs }
}

function labelerFigures(labeler: string, labels: readonly KnownLabel[]): LabelerFigures {
  const counts = Object.fromEntries(choices.map((c) => [c, labels.filter(({ choice }) => choice === c).length])) as Record<Choice, number>
  const sided = counts.left + counts.right
  return { labeler, labels: labels.length, choices: counts, left: sided === 0 ? null : { share: counts.left / sided, interval: wilsonInterval(counts.left, sided) } }
}

/** What a choice says whatever stood on which side: 0 and 1 for either answer in an order of their own, 2 a tie, 3 both bad; null a skip. */
function category({ choice, preferred, answers }: KnownLabel): number | null {
  if (choice === 'skip') return null
  if (choice === 'both-bad') return 3
  return preferred === null ? 2 : preferred === answers.map((a) => JSON.stringify(a)).sort()[0] ? 0 : 1
}

function pairAgreement(labelers: [string, string], a: ReadonlyMap<string, KnownLabel>, b: ReadonlyMap<string, KnownLabel>): PairAgreement | null {
  const counts = Array.from({ length: 4 }, () => [0, 0, 0, 0])
  let rows = 0
  let agreed = 0
  for (const [key, label] of a) {
    const other = b.get(key)
    const [x, y] = [category(label), other ? category(other) : null]
    if (x === null || y === null) continue
    counts[x]![y]!++
    rows++
    if (x === y) agreed++
  }
  return rows === 0 ? null : { labelers, rows, ...cohenKappa(counts), agreementInterval: wilsonInterval(agreed, rows) }
}
