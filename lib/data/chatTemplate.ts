/** Chat messages -> text, through the model's own template or in the form of the HH-RLHF transcripts. */
import { fail } from '../base/errors.js'
import { answerSpans } from './chatSpans.js'
import { compileJinja } from './jinja.js'
import type { Message } from './records.js'

/** What rendering needs from a tokenizer. */
export interface ChatStyle {
  readonly chatTemplate: string | null
  readonly bosToken: string | null
  readonly eosToken: string | null
  /** Where the template stands, for errors. */
  readonly chatTemplateFile?: string | null
  /** Tokens that are found in a text as a whole, such as <|im_end|>. */
  readonly addedTokens?: readonly string[]
}

/** The style of a model that brings no template. */
export const transcriptStyle: ChatStyle = { chatTemplate: null, bosToken: null, eosToken: null }

interface RenderOptions {
  readonly generationPrompt: boolean
  /** Marks put around what {% generation %} encloses. */
  readonly marks?: { readonly open: string; readonly close: string }
}

/**
 * Renders messages as one text. `generationPrompt` ends it where the assistant's next answer begins.
 * Without a template: the system text first, then "\n\nHuman: ..." and "\n\nAssistant: ...".
 */
export function renderMessages(messages: readonly Message[], style: ChatStyle, options: RenderOptions): string {
  if (style.chatTemplate === null) return renderTranscript(messages, options.generationPrompt)
  // What transformers passes, with `tools` and `documents` for none.
  const values = {
    messages: messages.map(({ role, content }) => ({ role, content })),
    tools: null,
    documents: null,
    add_generation_prompt: options.generationPrompt,
    bos_token: style.bosToken ?? '',
    eos_token: style.eosToken ?? '',
  }
  return compileJinja(style.chatTemplate, fileOf(style)).render(values, options.marks)
}

function fileOf({ chatTemplateFile }: ChatStyle): string {
  return chatTemplateFile ?? 'the tokenizer files'
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
 * message from `firstAnswer` on is an answer, but for those the template leaves out. Errors: a template that does not
 * let the place of an answer be proven (see chatSpans.ts).
 */
export function chatSegments(messages: readonly Message[], style: ChatStyle, firstAnswer = 0): ChatSegment[] {
  const { text, spans } = answerSpans(messages, firstAnswer, rendererOf(style))
  const segments: ChatSegment[] = []
  let done = 0
  for (const { from, to } of spans) {
    segments.push({ text: text.slice(done, from), answer: false }, { text: text.slice(from, to), answer: true })
    done = to
  }
  if (done < text.length) segments.push({ text: text.slice(done), answer: false })
  return segments
}

/**
 * The text of a prompt and of the answer that follows it. Errors: a template that does not let the beginning of the
 * answer be proven.
 */
export function chatAnswer(
  prompt: readonly Message[],
  answer: readonly Message[],
  style: ChatStyle,
): { prompt: string; answer: string } {
  if (answer[0]?.role !== 'assistant') {
    const before = renderMessages(prompt, style, { generationPrompt: false })
    const whole = renderMessages([...prompt, ...answer], style, { generationPrompt: false })
    if (whole.startsWith(before)) return { prompt: before, answer: whole.slice(before.length) }
    fail(
      'chat template',
      'a template whose text with the answer begins with its text of the question',
      'a different beginning',
      'rows whose answers are messages of the assistant, or text written out as the model should see it',
    )
  }
  const { text, spans } = answerSpans([...prompt, ...answer], prompt.length, rendererOf(style))
  const start = spans[0]?.from ?? text.length
  return { prompt: text.slice(0, start), answer: text.slice(start) }
}

function rendererOf(style: ChatStyle): Parameters<typeof answerSpans>[2] {
  return {
    render: (messages, options) => renderMessages(messages, style, options),
    addedTokens: style.addedTokens ?? [],
    marksGeneration: style.chatTemplate !== null && compileJinja(style.chatTemplate, fileOf(style)).marksGeneration,
    file: fileOf(style),
  }
}
