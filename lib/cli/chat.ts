// The terminal chat: streaming, several turns, /clear and /quit. Ctrl-C stops the answer; without one, the program.
import { createInterface } from 'node:readline'
import type { Interface } from 'node:readline'

import { Interrupted, fail } from '../base/errors.js'
import { resolveOptions } from '../base/options.js'
import type { Resolved } from '../base/options.js'
import { renderMessages } from '../data/chatTemplate.js'
import type { Message } from '../data/records.js'
import type { Tokenizer } from '../data/tokenizer.js'
import { Model } from '../stages/model.js'
import { hubHooks } from '../stages/shared.js'
import { noteIgnored, parseIds, parseLogitBias } from '../stages/score.js'
import { chatDrawing, chatOptions } from '../stages/useOptions.js'
import type { DType } from '../tensor/device.js'
import type { Context } from './command.js'
import { reportError } from './report.js'

/** What a model trained on transcripts writes where the next turn begins. */
const nextTurn = '\n\nHuman:'

/** Talks until /quit, the end of the input, or Ctrl-C. Answers go to stdout, everything else to stderr. */
export async function chat(given: Record<string, unknown>, context: Context): Promise<void> {
  const options = resolveOptions('chat', chatOptions, given)
  const { model: folder, device, dtype, threads } = options
  using model = await Model.load(folder, { device, dtype: dtype as DType, threads, ...hubHooks(context.hooks) })
  if (model.isRewardModel) fail('chat', `a language model in ${folder}`, 'a reward model, which cannot answer', 'the SFT or actor model')
  if (!model.tokenizer) fail('chat', `a tokenizer in ${folder}`, 'none', 'a folder with tokenizer.json')
  noteIgnored(model, context.hooks)
  const talk = new Conversation(model, options)
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: process.stdin.isTTY === true, prompt: '> ' })
  // on a terminal Ctrl-C arrives as a key
  lines.on('SIGINT', context.interrupts.interrupt)
  context.hooks.signal?.addEventListener('abort', () => lines.close())
  const live = process.stdin.isTTY === true && !context.quiet
  if (live) process.stderr.write('/clear starts over, /quit ends, Ctrl-C stops an answer\n')
  if (live) lines.prompt()
  try {
    for await (const line of linesOf(lines)) {
      const text = line.trim()
      if (text === '/quit' || text === '/exit') return
      if (text === '/clear') talk.clear()
      else if (text.startsWith('/')) process.stderr.write(`no such command: ${text}; /clear or /quit\n`)
      else if (text !== '') await answer(talk, text, context)
      if (context.hooks.signal?.aborted) break
      if (live) lines.prompt()
    }
  } finally {
    lines.close()
  }
  if (context.hooks.signal?.aborted) throw new Interrupted(null)
}

/** Lines as they come; none is lost while an answer is written, unlike with readline's own iterator before Node 22. */
async function* linesOf(lines: Interface): AsyncGenerator<string> {
  const waiting: string[] = []
  let closed = false
  let wake = (): void => undefined
  lines.on('line', (line) => (waiting.push(line), wake()))
  lines.on('close', () => ((closed = true), wake()))
  for (;;) {
    while (waiting.length > 0) yield waiting.shift()!
    if (closed) return
    await new Promise<void>((resolve) => (wake = resolve))
  }
}

/** One turn; an error (a question too long for the model) ends the turn, not the chat. */
async function answer(talk: Conversation, text: string, context: Context): Promise<void> {
  const controller = new AbortController()
  using diverted = context.interrupts.divert(() => controller.abort())
  void diverted
  try {
    let whole = ''
    for await (const piece of talk.ask(text, controller.signal)) {
      whole += piece
      if (!context.json) process.stdout.write(piece)
    }
    context.print(context.json ? JSON.stringify({ role: 'assistant', content: whole }) : '')
  } catch (error) {
    reportError(error, 'chat', context.json)
  }
}

class Conversation {
  #messages: Message[] = []
  #turn = 0

  constructor(
    private readonly model: Model,
    private readonly options: Resolved<typeof chatOptions>,
  ) {
    this.clear()
  }

  clear(): void {
    const { system } = this.options
    this.#messages = system === null ? [] : [{ role: 'system', content: system }]
  }

  /** The answer's pieces. Each turn draws from a seed of its own. */
  async *ask(text: string, signal: AbortSignal): AsyncGenerator<string> {
    const { options: o, model } = this
    const asked = [...this.#messages, { role: 'user', content: text }]
    const style = model.tokenizer
    const prompt = style ? fitting(asked, style, model.maxPositions) : text
    const stop = style?.chatTemplate ? o.stop : [...o.stop, nextTurn]
    let said = ''
    const drawing = { ...o, stop, stopIds: parseIds(o.stopIds), logitBias: parseLogitBias(o.logitBias), seed: o.seed + this.#turn++, fallback: chatDrawing }
    for await (const raw of model.stream(prompt, { ...drawing, signal })) {
      // a transcript's answer begins with the space behind "Assistant:"
      const piece = said === '' ? raw.trimStart() : raw
      said += piece
      if (piece !== '') yield piece
    }
    this.#messages = [...asked, { role: 'assistant', content: said.trimEnd() }]
  }
}

/** The conversation as text; the oldest turns are left out where it would not fit with some room for the answer. */
function fitting(messages: readonly Message[], tokenizer: Tokenizer, maxPositions: number): string {
  const system = messages[0]?.role === 'system' ? messages.slice(0, 1) : []
  const room = Math.max(1, Math.floor(maxPositions / 4))
  for (let turns = messages.slice(system.length); ; turns = turns.slice(2)) {
    const text = renderMessages([...system, ...turns], tokenizer, { generationPrompt: true })
    if (turns.length <= 2 || tokenizer.encodePrompt(text).length + room <= maxPositions) return text
  }
}
