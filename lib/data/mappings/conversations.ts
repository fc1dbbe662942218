/** Sets of conversations: ShareGPT's form, UltraFeedback's pairs, OpenAssistant's trees. */
import type { Location, Message } from '../records.js'
import type { FieldRow, Fields, GroupMapping, RowMapping, Shaped } from './mapping.js'
import { messagesAt, roleOf, textAt, valueAt } from './mapping.js'

/** {conversations: [{from, value}]}. What stands behind the last answer has none, and goes. */
const sharegpt: RowMapping = {
  name: 'ShareGPT',
  sets: [],
  columns: ['conversations'],
  signature: ['conversations'],
  row: (row) => {
    const messages = messagesAt(row, 'conversations') ?? []
    const last = messages.findLastIndex(({ role }) => role === 'assistant')
    return last < 0 ? null : { messages: messages.slice(0, last + 1) }
  },
}

/** Beside the two conversations it has the chosen one a second time, as "messages", which alone would make it a set for SFT. */
const ultrafeedback: RowMapping = {
  name: 'HuggingFaceH4/ultrafeedback_binarized',
  sets: ['HuggingFaceH4/ultrafeedback_binarized'],
  columns: ['prompt', 'chosen', 'rejected'],
  signature: ['chosen', 'rejected', 'messages'],
  splits: { train: /train_prefs/, held: /test_prefs/ },
  row: ({ fields }) => ({ prompt: fields['prompt'], chosen: fields['chosen'], rejected: fields['rejected'] }),
}

interface Node {
  readonly message: Message
  readonly at: Location
  /** Lower is better; null where nobody ranked it. */
  readonly rank: number | null
  readonly children: Node[]
}

/** No conversation of people goes this deep; a file that is not what it seems might. */
const maxDepth = 512

/** The roots of a tree; messages whose parent is not among the rows are left out with what hangs on them. */
function rootsOf(rows: readonly FieldRow[]): Node[] {
  const nodes = new Map<string, Node>()
  for (const row of rows) {
    const id = textAt(row, 'message_id')
    const content = textAt(row, 'text')
    const role = textAt(row, 'role')
    if (id === null || content === null || role === null || valueAt(row.fields, 'deleted') === true) continue
    const rank = valueAt(row.fields, 'rank')
    nodes.set(id, { message: { role: roleOf(role), content }, at: row.at, rank: typeof rank === 'number' ? rank : null, children: [] })
  }
  const roots: Node[] = []
  for (const row of rows) {
    const node = nodes.get(textAt(row, 'message_id') ?? '')
    const parent = textAt(row, 'parent_id')
    if (node === undefined) continue
    if (parent === null) roots.push(node)
    else nodes.get(parent)?.children.push(node)
  }
  return roots.filter(({ message }) => message.role === 'user')
}

const answersTo = (prompt: Node): Node[] => prompt.children.filter(({ message }) => message.role === 'assistant')
const best = (nodes: readonly Node[]): Node | undefined => nodes.reduce<Node | undefined>((a, b) => (a === undefined || (b.rank ?? Infinity) < (a.rank ?? Infinity) ? b : a), undefined)

/** Walks all prompts, following every question and, to the next one, the best answer (`all`: every answer). */
function* prompts(roots: readonly Node[], all: boolean): Generator<{ prompt: Node; path: readonly Message[] }> {
  const open = roots.map((prompt) => ({ prompt, path: [prompt.message] as readonly Message[] })).reverse()
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    yield next
    const { prompt, path } = next
    if (path.length > maxDepth) continue
    const answers = answersTo(prompt)
    const followed = all ? answers : answers.filter((answer) => answer === best(answers))
    for (const answer of [...followed].reverse()) {
      for (const question of [...answer.children].reverse()) {
        if (question.message.role === 'user') open.push({ prompt: question, path: [...path, answer.message, question.message] })
      }
    }
  }
}

/** To each prompt with answers of different ranks: all that are ranked. */
function* rankings(rows: readonly FieldRow[]): Generator<[Shaped, Location]> {
  for (const { prompt, path } of prompts(rootsOf(rows), true)) {
    const ranked = answersTo(prompt).filter(({ rank }) => rank !== null)
    if (new Set(ranked.map(({ rank }) => rank)).size < 2) continue
    yield [{ prompt: path, responses: ranked.map(({ message }) => [message]), ranking: ranked.map(({ rank }) => rank) }, best(ranked)!.at]
  }
}

/** Each conversation along the best answers, to its last answer. */
function* conversations(rows: readonly FieldRow[]): Generator<[Shaped, Location]> {
  for (const { prompt, path } of prompts(rootsOf(rows), false)) {
    const answer = best(answersTo(prompt))
    const goesOn = answer?.children.some((question) => question.message.role === 'user' && answersTo(question).length > 0)
    if (answer !== undefined && goesOn === false) yield [{ messages: [...path, answer.message] }, answer.at]
  }
}

const openAssistant: GroupMapping = {
  name: 'OpenAssistant',
  sets: ['OpenAssistant/oasst1', 'OpenAssistant/oasst2'],
  columns: ['message_id', 'parent_id', 'text', 'role', 'rank', 'message_tree_id', 'deleted'],
  signature: ['message_id', 'parent_id', 'text', 'role'],
  key: ({ fields }: { fields: Fields }, before) => fields['message_tree_id'] ?? ((fields['parent_id'] ?? null) === null ? fields['message_id'] : before),
  group: (rows, pairs) => [...(pairs ? rankings(rows) : conversations(rows))],
}

export const conversationMappings: readonly (RowMapping | GroupMapping)[] = [ultrafeedback, sharegpt, openAssistant]
