// A prompt or an answer as a row has it: text, or messages.
import type { Message } from '../data/records.js'

export type PromptText = string | readonly Message[]

/** As people read it. */
export const shownText = (text: PromptText): string => (typeof text === 'string' ? text : text.map(({ role, content }) => `${role}: ${content}`).join('\n\n'))
