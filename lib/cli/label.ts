// label: people choose between two answers; --agreement: how far they agree.
import { resolve } from 'node:path'

import { Interrupted, UsageError } from '../base/errors.js'
import type { Interval } from '../base/inference.js'
import { resolveOptions } from '../base/options.js'
import type { AgreementResult, PairAgreement } from '../stages/agreement.js'
import type { LabelFile } from '../stages/labelFile.js'
import type { Choice, LabelItem } from '../stages/labelRows.js'
import { labelOptions } from '../stages/labelOptions.js'
import type { CommandSpec, Context } from './command.js'
import type { LabelInput } from './labelInput.js'
import { percent, table } from './table.js'

export const label: CommandSpec = {
  name: 'label',
  summary: 'choose between two answers in the terminal: rows for the reward model; or measure how far labelers agree',
  options: labelOptions,
  async run(given, context) {
    const { input, output, labeler, seed, agreement: files } = resolveOptions('label', labelOptions, given)
    if (files.length > 0) {
      const also = Object.entries({ '--input': input, '--output': output, '--labeler': labeler }).find(([, value]) => value !== null)
      if (also) throw new UsageError('--agreement', 'files of labels and nothing else', `${also[0]} beside them`, 'one or the other')
      const { agreement } = await import('../stages/agreement.js')
      const result = await agreement(files)
      return { json: result, text: agreementText(result) }
    }
    if (input === null || output === null || labeler === null) throw new UsageError('label', '--input, --output and --labeler (or --agreement)', `no ${input === null ? '--input' : output === null ? '--output' : '--labeler'}`, 'threefold label --input pairs.jsonl --output labels.jsonl --labeler ann')
    if (!output.endsWith('.jsonl')) throw new UsageError('--output', 'a name that ends in .jsonl, as the reward stage reads it', output, `--output ${output}.jsonl`)
    if (resolve(input) === resolve(output)) throw new UsageError('--output', 'a file of its own for the labels', 'the --input', '--output labels.jsonl')
    return session({ input, output, labeler, seed }, context)
  },
}

interface Session {
  input: string
  output: string
  labeler: string
  seed: number
}

async function session({ input, output, labeler, seed }: Session, context: Context): Promise<{ json: unknown; text: string }> {
  const { readLabelItems } = await import('../stages/labelRows.js')
  const { LabelFile } = await import('../stages/labelFile.js')
  const { labelInput } = await import('./labelInput.js')
  const { items, same } = await readLabelItems(input)
  const file = await LabelFile.open(output, labeler)
  try {
    if (file.torn) context.hooks.progress.note(`${output}: a last line that was cut in two is taken away; its row is shown again`)
    if (same > 0) context.hooks.progress.note(`${same} row${same === 1 ? '' : 's'} left out: twice the same answer`)
    const open = items.filter(({ key }) => !file.done.has(key))
    const before = items.length - open.length
    if (before > 0) context.hooks.progress.note(`${before} of ${items.length} rows were labelled by ${labeler} before`)
    using keys = labelInput(process.stdin, context.interrupts)
    const made = await labelAll(open, before, { labeler, seed, file, keys }, context)
    if (context.hooks.signal?.aborted) throw new Interrupted(output)
    const left = open.length - made.length
    const json = { labelled: made.length, before, left, choices: Object.fromEntries([...new Set(made)].map((c) => [c, made.filter((m) => m === c).length])), output }
    return { json, text: `${made.length} row${made.length === 1 ? '' : 's'} labelled${before > 0 ? `, ${before} before` : ''}, ${left} left: ${output}` }
  } finally {
    await file.close()
  }
}

interface Desk {
  labeler: string
  seed: number
  file: LabelFile
  keys: LabelInput
}

/** Shows one item after the other; gives the choices that were written. */
async function labelAll(items: readonly LabelItem[], before: number, { labeler, seed, file, keys }: Desk, { quiet }: Context): Promise<Choice[]> {
  const { labelRow, secondOnLeft } = await import('../stages/labelRows.js')
  const { labelScreen, keyHelp } = await import('./labelScreen.js')
  const { commandOf } = await import('./labelInput.js')
  const made: Choice[] = []
  const say = (text: string): void => void (quiet && !process.stdin.isTTY ? undefined : process.stderr.write(text))
  for (let shown = -1; made.length < items.length; ) {
    const item = items[made.length]!
    const swapped = secondOnLeft(item, labeler, seed)
    if (shown !== made.length) {
      const [left, right] = swapped ? [item.answers[1], item.answers[0]] : item.answers
      const clear = process.stderr.isTTY ? '\x1b[2J\x1b[H' : ''
      say(clear + labelScreen(`${before + made.length + 1} of ${before + items.length}`, item.prompt, left, right, Math.max(20, process.stderr.columns || 80)))
      shown = made.length
    }
    const word = await keys.next()
    if (word === null) break
    const command = commandOf(word)
    if (command === 'quit') break
    if (command === null) {
      if (word.trim() !== '') say(`no such choice: ${JSON.stringify(word.trim())}; ${keyHelp}\n`)
    } else if (command === 'back') {
      if (await file.takeBack()) made.pop()
      else say('nothing of this session to take back\n')
    } else {
      await file.add(labelRow(item, command, labeler, swapped, new Date()))
      made.push(command)
    }
  }
  return made
}

const between = (interval: Interval | null, of: (x: number) => string): string => (interval ? ` (${of(interval[0])} to ${of(interval[1])})` : '')

function agreementText({ labelers, pairs }: AgreementResult): string {
  const kappa = ({ kappa: k, interval }: PairAgreement): string => (k === null ? 'not defined: one choice alone' : `${k.toFixed(3)}${between(interval, (x) => x.toFixed(3))}`)
  const people = labelers.map(({ labeler, labels, choices: c, left }) => [labeler, String(labels), String(c.left), String(c.right), String(c.tie), String(c['both-bad']), String(c.skip), left ? `${percent(left.share)}${between(left.interval, percent)}` : '-'])
  return [
    table([['labelers', 'rows of both', 'agreement', "Cohen's kappa"], ...pairs.map((p) => [p.labelers.join(', '), String(p.rows), `${percent(p.agreement)}${between(p.agreementInterval, percent)}`, kappa(p)])]),
    '',
    table([['labeler', 'labels', 'left', 'right', 'tie', 'both bad', 'skip', 'share of left'], ...people]),
    '',
    'in brackets 95 % intervals; sides are random, so half of the choices should fall on the left',
  ].join('\n')
}
