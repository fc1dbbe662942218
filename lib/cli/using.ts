// generate, score, chat.
import { short } from '../base/progress.js'
import { chatOptions, generateOptions, scoreOptions } from '../stages/useOptions.js'
import type { CommandSpec } from './command.js'
import { asGiven, modelAlias } from './command.js'

export const generate: CommandSpec = {
  name: 'generate',
  summary: 'answer prompts',
  options: generateOptions,
  aliases: modelAlias,
  async run(given, { hooks, json, print }) {
    const rows = given['input'] !== undefined
    // rows to stdout as they come; one prompt without --json as plain text
    const sink = rows || json ? print : () => undefined
    const { answers, tokens, seconds, output } = await (await import('../stages/score.js')).generate(asGiven(given), hooks, sink)
    if (output === null && (rows || json)) return null
    if (output === null) return { json: null, text: answers[0]!.text ?? answers[0]!.outputIds.join(' ') }
    return { json: { rows: answers.length, tokens, seconds, output }, text: `${answers.length} answers, ${tokens} tokens in ${seconds.toFixed(1)} s: ${output}` }
  },
}

export const score: CommandSpec = {
  name: 'score',
  summary: 'log-probs of rows, or the scores of a reward model',
  options: scoreOptions,
  aliases: modelAlias,
  async run(given, { hooks, print }) {
    const result = await (await import('../stages/score.js')).score(asGiven(given), hooks, print)
    if (result.output === null) return null
    const mean = result.mean === null ? '' : `, mean ${result.kind === 'values' ? 'score' : 'log-prob'} ${short(result.mean)}`
    return { json: result, text: `${result.rows} rows, ${result.tokens} tokens${mean}: ${result.output}` }
  },
}

export const chat: CommandSpec = {
  name: 'chat',
  summary: 'talk with a model in the terminal',
  options: chatOptions,
  aliases: modelAlias,
  async run(given, context) {
    await (await import('./chat.js')).chat(given, context)
    return null
  },
}
