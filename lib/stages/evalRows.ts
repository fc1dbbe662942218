// The rows of an evaluation, by what each can be used for: perplexity, the accuracy of a reward model, prompts to answer.
import type { RunHooks } from '../base/run.js'
import type { RawRow } from '../data/records.js'
import { heldSets } from '../data/stageData.js'
import type { PromptText } from './promptText.js'
import { seedOf } from './score.js'
import { hubHooks } from './shared.js'

/** A prompt and the first row it stands in. */
export interface EvalPrompt {
  prompt: PromptText
  row: RawRow
  /** Of the row; null: --seed and the prompt's place decide. */
  seed: number | null
}

export interface EvalRows {
  rows: number
  /** Rows without a prompt or an answer, and labels that prefer neither answer. */
  skipped: number
  /** Rows with a text or an answer: perplexity. Of pairs the chosen answer counts. */
  texts: RawRow[]
  /** Rows in which one of two answers is preferred. */
  pairs: RawRow[]
  /** Different prompts, in the order of the rows. */
  prompts: EvalPrompt[]
}

/** Reads all rows of the data paths; of a folder with a validation or test split that split alone. */
export async function readEvalRows(dataPath: readonly string[], columns: string | null, hooks: RunHooks): Promise<EvalRows> {
  const found: EvalRows = { rows: 0, skipped: 0, texts: [], pairs: [], prompts: [] }
  const seen = new Set<string>()
  for (const set of await heldSets(dataPath, { columns, pairs: true, hub: hubHooks(hooks) })) {
    for await (const row of set.rows()) {
      found.rows++
      if (hasAnswer(row)) found.texts.push(row)
      if (row.kind === 'preference' || row.kind === 'messagePreference') found.pairs.push(row)
      const prompt = promptOf(row)
      if (prompt === null || seen.size === seen.add(JSON.stringify(prompt)).size) continue
      found.prompts.push({ prompt, row, seed: seedOf(row) })
    }
    found.skipped += set.skipped
  }
  return found
}

function hasAnswer(row: RawRow): boolean {
  return row.kind === 'messages' ? row.messages.at(-1)?.role === 'assistant' : row.kind !== 'prompt'
}

function promptOf(row: RawRow): PromptText | null {
  switch (row.kind) {
    case 'text':
    case 'ids':
      return null
    case 'messages':
      return hasAnswer(row) ? row.messages.slice(0, -1) : row.messages
    default:
      return row.prompt
  }
}

/**
 * Places 0 .. n-1 in an order of which every beginning is spread evenly over them: by the fractional part of i / golden ratio, the points
 * that --data-split goes by (split.ts).
 */
export function spreadOrder(n: number): number[] {
  const point = (i: number): number => (i * 0.6180339887498949) % 1
  return Array.from({ length: n }, (_, i) => i).sort((a, b) => point(a) - point(b))
}
