// Chat templates: rendered, and cut into prompts and answers, as rows {messages} are.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { chatSegments, renderMessages } from '../../lib/data/chatTemplate.js'
import { Tokenizer } from '../../lib/data/tokenizer.js'
import { tokenizerConfig, tokenizerJson, vocabSize } from '../lib/data/support.js'
import type { FuzzTarget } from './target.js'

const templates = fileURLToPath(new URL('../fixtures/chat/templates.json.gz', import.meta.url))
const messages = [
  { role: 'user', content: ' Hi ' },
  { role: 'assistant', content: '<think>\nwell\n</think>\n\nHello!' },
  { role: 'user', content: 'Bye' },
  { role: 'assistant', content: 'Bye' },
]

interface Family {
  readonly template: string
  readonly marked: string
  readonly added: readonly string[]
}

/** A small tokenizer that has a family's tokens. */
function withTokens(added: readonly string[]): unknown {
  const json = tokenizerJson()
  const own = json['added_tokens'] as { content: string }[]
  const others = added.filter((content) => own.every((token) => token.content !== content))
  return { ...json, added_tokens: [...own, ...others.map((content, i) => ({ id: vocabSize + i, content, special: true }))] }
}

export const target: FuzzTarget = {
  name: 'chat_template.jinja',
  seeds() {
    const families = Object.values((JSON.parse(gunzipSync(readFileSync(templates)).toString()) as { templates: Record<string, Family> }).templates)
    return Promise.resolve(
      families.flatMap(({ template, marked, added }) => {
        const beside: [string, Uint8Array][] = [
          ['tokenizer.json', Buffer.from(JSON.stringify(withTokens(added)))],
          ['tokenizer_config.json', Buffer.from(JSON.stringify(tokenizerConfig))],
        ]
        return [template, marked].map((source) => new Map<string, Uint8Array>([['chat_template.jinja', Buffer.from(source)], ...beside]))
      }),
    )
  },
  async read(file) {
    const tokenizer = await Tokenizer.load(path.dirname(file))
    renderMessages(messages, tokenizer, { generationPrompt: true })
    return chatSegments(messages, tokenizer)
  },
}
