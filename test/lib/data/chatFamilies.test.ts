// Public chat templates: the texts of transformers, and its answers (test/oracle/chat_templates.py).
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import test from 'ava'
import { chatAnswer, chatSegments, renderMessages } from '../../../lib/data/chatTemplate.js'
import type { Message } from '../../../lib/data/records.js'
import { answerKind, tokenizeRows } from '../../../lib/data/tokenize.js'
import { Tokenizer } from '../../../lib/data/tokenizer.js'
import { failsWith } from './support.js'
import { fixtureFolder } from './tokenizers/support.js'

interface Case {
  readonly messages: readonly Message[]
  readonly error?: string
  readonly text: string
  /** The messages before the last, with the generation prompt. */
  readonly prompt: string
  /** Between answers, answer, between, answer, ..., behind the last. */
  readonly pieces: readonly string[]
}
interface Family {
  readonly template: string
  readonly marked: string
  readonly bos: string
  readonly eos: string
  readonly added: readonly string[]
  readonly cases: readonly Case[]
}
interface Fixture {
  readonly templates: Readonly<Record<string, Family>>
  readonly tokens: Readonly<Record<string, { tokenizer: string; cases: readonly { messages: readonly Message[]; ids: readonly number[]; mask: readonly number[] }[] }>>
}

const file = fileURLToPath(new URL('../../fixtures/chat/templates.json.gz', import.meta.url))
const { templates, tokens } = JSON.parse(gunzipSync(readFileSync(file)).toString()) as Fixture
const style = ({ template, bos, eos, added }: Family, chatTemplate = template): Parameters<typeof renderMessages>[1] => ({ chatTemplate, bosToken: bos, eosToken: eos, addedTokens: added })

for (const [name, family] of Object.entries(templates)) {
  test(`${name}: the texts and the answers of transformers`, async (t) => {
    for (const { messages, error, text, prompt, pieces } of family.cases) {
      const about = JSON.stringify(messages)
      if (error !== undefined) {
        await failsWith(t, () => chatSegments(messages, style(family)), '[chat template]', error)
        continue
      }
      t.is(renderMessages(messages, style(family), { generationPrompt: false }), text, about)
      t.is(renderMessages(messages.slice(0, -1), style(family), { generationPrompt: true }), prompt, about)
      for (const chatTemplate of [family.template, family.marked]) {
        const segments = chatSegments(messages, style(family, chatTemplate))
        t.is(segments.map((segment) => segment.text).join(''), text)
        t.deepEqual(segments.filter(({ answer }) => answer).map((segment) => segment.text), pieces.filter((piece, i) => i % 2 === 1 && piece !== ''), about)
      }
      const last = chatAnswer(messages.slice(0, -1), messages.slice(-1), style(family))
      t.deepEqual(last, { prompt: pieces.slice(0, -2).join(''), answer: pieces.slice(-2).join('') }, about)
    }
  })
}

for (const [name, { tokenizer: folderName, cases }] of Object.entries(tokens)) {
  test(`${name}: ids and mask of apply_chat_template`, async (t) => {
    const folder = await fixtureFolder(t, folderName, { 'chat_template.jinja': templates[name]!.template })
    const tokenizer = await Tokenizer.load(folder)
    t.true(cases.length >= 4)
    for (const { messages, ids, mask } of cases) {
      const at = { file: 'rows.jsonl', line: 1, unit: 'line' } as const
      const { rows } = await tokenizeRows(answerKind, [{ kind: 'messages', messages, at }], { tokenizer, vocabSize: tokenizer.vocabSize, appendEos: false })
      t.is(tokenizer.decode(rows[0]!.ids, { skipSpecial: false }), tokenizer.decode(ids, { skipSpecial: false }))
      t.deepEqual([...rows[0]!.ids], [...ids], JSON.stringify(messages))
      t.deepEqual([...rows[0]!.counted], [...mask], JSON.stringify(messages))
    }
  })
}
