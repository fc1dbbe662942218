// eval: the figures of models as tables.
import type { EvalResult } from '../stages/eval.js'
import { evalOptions } from '../stages/evalOptions.js'
import type { CommandSpec } from './command.js'
import { asGiven, modelAlias } from './command.js'
import { duration, table } from './table.js'

export const evaluate: CommandSpec = {
  name: 'eval',
  summary: 'perplexity, accuracy of a reward model, two models on the same prompts: all with 95 % intervals',
  options: evalOptions,
  aliases: { ...modelAlias, 'reward-model-name-or-path': 'reward-model' },
  async run(given, { hooks }) {
    const result = await (await import('../stages/eval.js')).evaluate(asGiven(given), hooks)
    const { summaryTables } = await import('../stages/evalSummary.js')
    const tables = summaryTables(result).map(({ title, rows }) => `${title}\n${table(rows)}`)
    return { json: result, text: [...tables, footer(result)].join('\n\n') }
  },
}

function footer({ model, rows, seconds, outputDir }: EvalResult): string {
  const parts = [`${rows.read} rows${rows.skipped > 0 ? `, ${rows.skipped} more skipped` : ''}`, ...(model ? [`${rows.answered} of ${rows.prompts} prompts answered`] : []), ...(rows.unscored > 0 ? [`${rows.unscored} too long to be scored`] : []), `took ${duration(seconds)}`]
  return `${parts.join('; ')}; ± standard errors, in brackets 95 % intervals${outputDir === null ? '' : `\neval.json, samples.jsonl and report.html are in ${outputDir}`}`
}
