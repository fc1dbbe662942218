/** Chat messages -> text, through the model's own template or in the form of the HH-RLHF transcripts. */
import { Template } from '@huggingface/jinja'
import { fail } from '../base/errors.js'
import type { Message } from './records.js'

/** What rendering needs from a tokenizer. */
export interface ChatStyle {
  readonly chatTemplate: string | null
  readonly bosToken: string | null
  readonly eosToken: string | null
}

/** The style of a model that brings no template. */
export const transcriptStyle: ChatStyle = { chatTemplate: null, bosToken: null, eosToken: null }

const compiled = new Map<string, Template>()

function compile(source: string): Template {
  const known = compiled.get(source)
  if (known !== undefined) return known
  let template: Template
  try {
    template = new Template(source)
  } catch (error) {
    fail('chat template', 'a Jinja template', String(error), 'to correct chat_template in the tokenizer files')
  }
  compiled.set(source, template)
  return template
}

/**
 * Renders messages as one text. `generationPrompt` ends it where the assistant's next answer begins.
 * Without a template: the system text first, then "\n\nHuman: ..." and "\n\nAssistant: ...".
 */
export function renderMessages(
  messages: readonly Message[],
  style: ChatStyle,
  options: { readonly generationPrompt: boolean },
): string {
  if (style.chatTemplate === null) return renderTranscript(messages, options.generationPrompt)
  try {
    return compile(style.chatTemplate).render({
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: options.generationPrompt,
      bos_token: style.bosToken ?? '',
      eos_token: style.eosToken ?? '',
    })
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error)
    fail(
      'chat template',
      'messages that the chat template accepts',
      cause,
      'the roles and the order that the model was trained with',
    )
  }
}

function renderTranscript(messages: readonly Message[], generationPrompt: boolean): string {
  const text = messages.map(({ role, content }, index) => {
    if (role === 'user' || role === 'human') return `\n\nHuman: ${content}`
    if (role === 'assistant') return `\n\nAssistant: ${content}`
    if (role === 'system' && index === 0) return content
    fail(
      'chat template',
      'the roles "user" and "assistant", and "system" for the first message',
      `${JSON.stringify(role)} in message ${index + 1}`,
      'to rename the role, or a model whose tokenizer has a chat template',
    )
  })
  return text.join('') + (generationPrompt ? '\n\nAssistant:' : '')
}

/** A piece of a conversation's text. */
export interface ChatSegment {
  readonly text: string
  /** True for what an assistant message says (with the end mark its template writes): it counts in the loss. */
  readonly answer: boolean
}

/**
 * Cuts a conversation into prompt and answer segments, in order; together they are the rendered text. Each assistant
 * message from `firstAnswer` on is an answer; an earlier one that the template renders differently once more follows
 * (some drop old reasoning) stays in the prompt. The last message is an assistant's.
 */
export function chatSegments(messages: readonly Message[], style: ChatStyle, firstAnswer = 0): ChatSegment[] {
  const whole = renderMessages(messages, style, { generationPrompt: false })
  const segments: ChatSegment[] = []
  let done = 0
  for (const [index, message] of messages.entries()) {
    if (message.role !== 'assistant' || index < firstAnswer) continue
    const prompt = renderMessages(messages.slice(0, index), style, { generationPrompt: true })
    const upTo = renderMessages(messages.slice(0, index + 1), style, { generationPrompt: false })
    const extends_ = prompt.length >= done && upTo.startsWith(prompt) && whole.startsWith(upTo)
    if (!extends_) {
      if (index < messages.length - 1) continue
      failOnTemplate()
    }
    segments.push({ text: whole.slice(done, prompt.length), answer: false }, { text: upTo.slice(prompt.length), answer: true })
    done = upTo.length
  }
  if (done < whole.length) segments.push({ text: whole.slice(done), answer: false })
  return segments
}

/**
 * The text of a prompt and of the answer that follows it. Errors: a template whose text of the whole does not begin
 * with its text of the prompt.
 */
export function chatAnswer(
  prompt: readonly Message[],
  answer: readonly Message[],
  style: ChatStyle,
): { prompt: string; answer: string } {
  const before = renderMessages(prompt, style, { generationPrompt: answer[0]?.role === 'assistant' })
  const whole = renderMessages([...prompt, ...answer], style, { generationPrompt: false })
  if (!whole.startsWith(before)) failOnTemplate()
  return { prompt: before, answer: whole.slice(before.length) }
}

function failOnTemplate(): never {
  fail(
    'chat template',
    'a template whose text with the answer begins with its text of the question',
    'a different beginning',
    'rows with a prompt and answers as text, written out as the model should see them',
  )
}
