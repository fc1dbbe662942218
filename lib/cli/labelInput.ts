// Where a labeler's commands come from: single keys of a terminal, or lines of anything else.
import { createInterface, emitKeypressEvents } from 'node:readline'
import type { ReadStream } from 'node:tty'

import { AsyncQueue } from '../base/asyncQueue.js'
import type { Choice } from '../stages/labelRows.js'
import type { Interrupts } from './interrupts.js'

export type LabelCommand = Choice | 'back' | 'quit'

const words: Readonly<Record<string, LabelCommand>> = {
  l: 'left', left: 'left', '1': 'left',
  r: 'right', right: 'right', '2': 'right',
  t: 'tie', tie: 'tie', '=': 'tie', down: 'tie',
  s: 'skip', skip: 'skip',
  b: 'both-bad', bad: 'both-bad', 'both-bad': 'both-bad',
  u: 'back', undo: 'back', back: 'back', backspace: 'back',
  q: 'quit', quit: 'quit',
} // prettier-ignore

/** A word or the name of a key as a command; null where it is none. */
export const commandOf = (word: string): LabelCommand | null => words[word.trim().toLowerCase()] ?? null

export interface LabelInput extends Disposable {
  /** The next word or key; null at the end of the input and after Ctrl-C. Keys pressed before it is asked for do not count. */
  next(): Promise<string | null>
}

/** stdin as it is: a terminal in raw mode until dispose(), else line by line. */
export function labelInput(stdin: ReadStream, interrupts: Interrupts): LabelInput {
  return stdin.isTTY ? keysOf(stdin, interrupts) : linesOf(stdin, interrupts.signal)
}

function linesOf(stdin: NodeJS.ReadableStream, signal: AbortSignal): LabelInput {
  const lines = createInterface({ input: stdin, terminal: false })
  const queue = new AsyncQueue<string>()
  lines.on('line', (line) => queue.push(line))
  lines.on('close', () => queue.end())
  const close = (): void => lines.close()
  signal.addEventListener('abort', close)
  const reader = queue[Symbol.asyncIterator]()
  return {
    async next() {
      const line = signal.aborted ? { done: true as const } : await reader.next()
      return line.done || signal.aborted ? null : line.value!
    },
    [Symbol.dispose]: close,
  }
}

interface Key {
  name?: string
  ctrl?: boolean
}

function keysOf(stdin: ReadStream, interrupts: Interrupts): LabelInput {
  let give: ((word: string | null) => void) | null = null
  let ended = false
  // a promise that is settled takes no second key
  const hand = (word: string | null): void => give?.(word)
  const end = (): void => {
    ended = true
    hand(null)
  }
  const onKey = (text: string | undefined, { name, ctrl }: Key): void => {
    // in raw mode Ctrl-C is a key like any other
    if (ctrl && name === 'c') interrupts.interrupt()
    else if (ctrl && name === 'd') end()
    else if (!ctrl) hand(name ?? text ?? '')
  }
  emitKeypressEvents(stdin)
  stdin.setRawMode(true)
  stdin.on('keypress', onKey).on('end', end).resume()
  interrupts.signal.addEventListener('abort', end)
  return {
    next: () => (ended ? Promise.resolve(null) : new Promise((resolve) => (give = resolve))),
    [Symbol.dispose]() {
      stdin.off('keypress', onKey).off('end', end)
      stdin.setRawMode(false)
      stdin.pause()
    },
  }
}
