/** Answers with ratings: HelpSteer's form. */
import type { FieldRow, GroupMapping, RowMapping } from './mapping.js'
import { numberAt, shaped, textAt } from './mapping.js'

/** Where a set keeps the three; paths, as in --columns. */
export interface RatingColumns {
  readonly prompt: string
  readonly response: string
  readonly rating: string
}

/**
 * Answers to one prompt stand behind each other. As pairs, the best against the worst: one pair for a prompt, since pairs
 * that share it are no independent rows (InstructGPT, section 3.5). A prompt whose answers are rated alike gives none.
 */
export function ratedAnswers({ prompt, response, rating }: RatingColumns): Pick<GroupMapping, 'key' | 'group'> {
  const answer = (row: FieldRow): ReturnType<RowMapping['row']> => shaped({ prompt: textAt(row, prompt), response: textAt(row, response) })
  return {
    key: (row) => textAt(row, prompt),
    group: (rows, pairs) => {
      if (!pairs) return rows.map((row) => [answer(row), row.at] as const)
      const rated = rows.filter((row) => answer(row) !== null).map((row) => ({ row, rating: numberAt(row, rating), text: textAt(row, response) }))
      // a stable sort: of answers that are rated alike the first one counts
      rated.sort((a, b) => b.rating - a.rating)
      const chosen = rated[0]
      const rejected = rated.find((answer) => answer.rating === rated.at(-1)!.rating)
      if (chosen === undefined || rejected === undefined || chosen.rating === rejected.rating) return []
      return [[{ prompt: textAt(chosen.row, prompt), chosen: chosen.text, rejected: rejected.text }, chosen.row.at]]
    },
  }
}

const rated = (name: string, sets: readonly string[], rating: string): GroupMapping => ({
  name,
  sets,
  columns: ['prompt', 'response', rating],
  signature: ['prompt', 'response', rating],
  ...ratedAnswers({ prompt: 'prompt', response: 'response', rating }),
})

export const ratingMappings: readonly GroupMapping[] = [rated('nvidia/HelpSteer', ['nvidia/HelpSteer', 'nvidia/HelpSteer2'], 'helpfulness'), rated('rated answers', [], 'rating')]
