/**
 * The sets DeepSpeed-Chat has classes for, with the strings that it makes of them: a prompt is " Human: " + question +
 * " Assistant:", an answer " " + text. Some sets hold transcripts already and are taken as they are.
 */
import type { FieldRow, RowMapping, Shaped } from './mapping.js'
import { numberAt, shaped, textAt } from './mapping.js'

const asked = (question: string | null): string | null => (question === null ? null : ` Human: ${question} Assistant:`)
const answered = (text: string | null): string | null => (text === null ? null : ` ${text}`)

/** " [1, 2]" and "(3)" are references of WebGPT's browser: numbers, each with a comma or a space behind it or both. */
const withoutCitations = (text: string | null): string | null => text?.replace(/ ?[([]\d(?:\d|(?<=\d),|(?<=[\d,]) )*[)\]]/g, '') ?? null

const preference = (row: FieldRow, question: string, chosen: string, rejected: string): Shaped =>
  shaped({ prompt: asked(textAt(row, question)), chosen: answered(textAt(row, chosen)), rejected: answered(textAt(row, rejected)) })
const response = (row: FieldRow, question: string, answer: string): Shaped => shaped({ prompt: asked(textAt(row, question)), response: answered(textAt(row, answer)) })

const asItIs = ({ fields }: FieldRow): Shaped => fields

const mkqa = (language: string, code: string): RowMapping => ({
  name: `mkqa-${language}`,
  sets: [`mkqa-${language}`],
  repo: 'apple/mkqa',
  columns: ['queries', 'answers'],
  row: (row) => response(row, `queries.${code}`, `answers.${code}.0.text`),
})

export const deepspeedChatMappings: readonly RowMapping[] = [
  { name: 'Dahoas/rm-static', sets: ['Dahoas/rm-static'], columns: ['prompt', 'chosen', 'rejected'], row: asItIs },
  { name: 'Dahoas/full-hh-rlhf', sets: ['Dahoas/full-hh-rlhf'], columns: ['prompt', 'chosen', 'rejected'], row: asItIs },
  { name: 'Anthropic/hh-rlhf', sets: ['Anthropic/hh-rlhf'], columns: ['chosen', 'rejected'], row: asItIs },
  {
    name: 'Dahoas/synthetic-instruct-gptj-pairwise',
    sets: ['Dahoas/synthetic-instruct-gptj-pairwise'],
    columns: ['prompt', 'chosen', 'rejected'],
    row: (row) => preference(row, 'prompt', 'chosen', 'rejected'),
  },
  {
    name: 'yitingxie/rlhf-reward-datasets',
    sets: ['yitingxie/rlhf-reward-datasets'],
    columns: ['prompt', 'chosen', 'rejected'],
    row: (row) => {
      const prompt = textAt(row, 'prompt')
      const last = (field: string): string | null => textAt(row, field)?.split('Assistant:').at(-1) ?? null
      return shaped({ prompt: prompt === null ? null : `${prompt}Assistant:`, chosen: last('chosen'), rejected: last('rejected') })
    },
  },
  {
    name: 'openai/webgpt_comparisons',
    sets: ['openai/webgpt_comparisons'],
    columns: ['question', 'answer_0', 'answer_1', 'score_0', 'score_1'],
    signature: ['question', 'answer_0', 'answer_1', 'score_0', 'score_1'],
    row: (row) => {
      // a tie goes to answer_0, as there
      const first = numberAt(row, 'score_0') >= numberAt(row, 'score_1')
      const answers = ['answer_0', 'answer_1'].map((field) => answered(withoutCitations(textAt(row, field))))
      const [chosen, rejected] = first ? answers : answers.reverse()
      return shaped({ prompt: asked(textAt(row, 'question.full_text')), chosen: chosen!, rejected: rejected! })
    },
  },
  {
    name: 'stanfordnlp/SHP',
    sets: ['stanfordnlp/SHP', 'stanfordnlp/SHP-2'],
    columns: ['history', 'human_ref_A', 'human_ref_B', 'labels'],
    signature: ['history', 'human_ref_A', 'human_ref_B', 'labels'],
    row: (row) => (numberAt(row, 'labels') === 1 ? preference(row, 'history', 'human_ref_A', 'human_ref_B') : preference(row, 'history', 'human_ref_B', 'human_ref_A')),
  },
  {
    name: 'Cohere/miracl-queries',
    sets: ['Cohere/miracl-zh-queries-22-12', 'Cohere/miracl-ja-queries-22-12'],
    columns: ['query', 'positive_passages', 'negative_passages'],
    signature: ['query', 'positive_passages', 'negative_passages'],
    row: (row) => preference(row, 'query', 'positive_passages.0.text', 'negative_passages.0.text'),
  },
  {
    name: 'wangrui6/Zhihu-KOL',
    sets: ['wangrui6/Zhihu-KOL'],
    columns: ['INSTRUCTION', 'RESPONSE'],
    signature: ['INSTRUCTION', 'RESPONSE'],
    row: (row) => response(row, 'INSTRUCTION', 'RESPONSE'),
  },
  {
    name: 'Hello-SimpleAI/HC3-Chinese',
    sets: ['Hello-SimpleAI/HC3-Chinese'],
    columns: ['question', 'human_answers'],
    signature: ['question', 'human_answers', 'chatgpt_answers'],
    // all.jsonl holds the rows of the other files
    splits: { train: /(?:^|\/)all(?:\.|-|\/)/ },
    row: (row) => response(row, 'question', 'human_answers.0'),
  },
  mkqa('Chinese', 'zh_cn'),
  mkqa('Japanese', 'ja'),
  { name: 'lmqg/qg_jaquad', sets: ['lmqg/qg_jaquad'], columns: ['question', 'sentence'], row: (row) => response(row, 'question', 'sentence') },
  { name: 'lmqg/qag_jaquad', sets: ['lmqg/qag_jaquad'], columns: ['questions', 'paragraph'], row: (row) => response(row, 'questions.0', 'paragraph') },
  {
    name: 'pvduy/sharegpt_alpaca_oa_vicuna_format',
    sets: ['pvduy/sharegpt_alpaca_oa_vicuna_format'],
    columns: ['prompt', 'label'],
    row: (row) => {
      const prompt = textAt(row, 'prompt') || null
      return shaped({ prompt: prompt?.replaceAll('USER', 'Human').replaceAll('ASSISTANT', 'Assistant') ?? null, response: answered(textAt(row, 'label') || null) })
    },
  },
]
