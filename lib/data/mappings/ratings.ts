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
 * Answers to one prompt stand behind each other. Where preferences are wanted they become one ranking (pairs that share a
 * prompt are no independent rows: InstructGPT, section 3.5). A prompt whose answers are rated alike gives none.
 */
export function ratedAnswers({ prompt, response, rating }: RatingColumns): Pick<GroupMapping, 'key' | 'group'> {
  const answer = (row: FieldRow): ReturnType<RowMapping['row']> => shaped({ prompt: textAt(row, prompt), response: textAt(row, response) })
  return {
    key: (row) => textAt(row, prompt),
    group: (rows, pairs) => {
      if (!pairs) return rows.map((row) => [answer(row), row.at] as const)
      const rated = rows.filter((row) => answer(row) !== null).map((row) => ({ row, rating: numberAt(row, rating), text: textAt(row, response) }))
      const best = rated.reduce<(typeof rated)[number] | undefined>((a, b) => (a === undefined || b.rating > a.rating ? b : a), undefined)
      if (best === undefined || rated.every((of) => of.rating === best.rating)) return []
      return [[{ prompt: textAt(best.row, prompt), responses: rated.map(({ text }) => text), ranking: rated.map((of) => -of.rating) }, best.row.at]]
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
