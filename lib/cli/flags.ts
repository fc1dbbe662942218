// Option tables -> flags and their help; the spellings that are accepted besides.
import type { Command, Option as Flag } from 'commander'

import { flagName } from '../base/options.js'
import type { Option, OptionTable } from '../base/options.js'
import type { CommandSpec } from './command.js'

/** Flags that belong to every command. */
export const everywhere: OptionTable = {
  json: { kind: 'flag', default: false, help: 'the result, and any error, as one line of JSON on stdout' },
  quiet: { kind: 'flag', default: false, help: 'no progress on stderr' },
}
export const trainingFlags: OptionTable = {
  dryRun: { kind: 'flag', default: false, help: 'show the configuration, the memory, the steps and the first rows; write nothing' },
}

/** All flags of a command, in the order of the help. */
export function flagsOf({ options, training }: CommandSpec): OptionTable {
  return { ...options, ...(training ? trainingFlags : {}), ...everywhere }
}

/** True or false may be left out after these. */
const isSwitch = (o: Option<unknown>): boolean => o.kind === 'flag' || (o.kind === 'later' && typeof o.default === 'boolean')

function placeholder(o: Option<unknown>): string {
  if (isSwitch(o)) return '[true|false]'
  if (o.kind === 'choice') return o.choices!.length <= 3 ? `<${o.choices!.join('|')}>` : '<name>'
  if (o.kind === 'texts') return '<text...>'
  if (o.kind === 'later') return typeof o.default === 'number' ? '<number>' : '<text>'
  return `<${o.kind}>`
}

/** "type, range, unit, default", as far as the flag's own name and placeholder do not say it. */
function facts(o: Option<unknown>): string {
  const range = o.min !== undefined && o.max !== undefined ? `${o.min} to ${o.max}` : o.min !== undefined ? `${o.min} or more` : o.max !== undefined ? `at most ${o.max}` : ''
  const fallback = !('default' in o) ? 'required' : o.default === null || (Array.isArray(o.default) && o.default.length === 0) ? 'default: none' : `default: ${String(o.default)}`
  const names = o.kind === 'choice' && o.choices!.length > 3 ? `one of ${o.choices!.join(', ')}` : ''
  return [names, o.unit ?? '', range, fallback].filter(Boolean).join(', ')
}

function laterHelp({ noops, comesWith = '' }: Option<unknown>): string {
  const nothing = /^nothing: (.*)/.exec(comesWith)?.[1]
  return nothing ? `no effect: ${nothing}` : `${noops!.map(String).join(' or ')}; comes with ${comesWith}`
}

/** One table entry as a flag of commander. */
export function toFlag(make: typeof Flag, key: string, o: Option<unknown>): Flag {
  const help = o.kind === 'later' ? laterHelp(o) : `${o.help} (${facts(o)})`
  const flag = new make(`${flagName(key)} ${placeholder(o)}`, help)
  return o.kind === 'later' ? flag.helpGroup("Accepted from DeepSpeed-Chat's command lines where they change nothing:") : flag
}

/** Adds the flags of a command. */
export function addFlags(command: Command, make: typeof Flag, spec: CommandSpec): void {
  for (const [key, o] of Object.entries(flagsOf(spec))) command.addOption(toFlag(make, key, o))
}

/** Underscores and other names of flags as the table spells them; values are left alone. */
export function normalize(given: readonly string[], spec: CommandSpec): string[] {
  const alone = spec.positional !== undefined && given[0] !== undefined && !given[0].startsWith('-')
  const argv = alone ? [`--${spec.positional}`, ...given] : given
  const known = new Set(Object.keys(flagsOf(spec)).map(flagName))
  const aliases = new Map(Object.entries(spec.aliases ?? {}).map(([from, to]) => [`--${from}`, `--${to}`]))
  return argv.map((word) => {
    if (!word.startsWith('--')) return word
    const [name, rest] = [word.split('=', 1)[0]!, word.slice(word.split('=', 1)[0]!.length)]
    const kebab = name.replaceAll('_', '-')
    const found = aliases.get(kebab) ?? kebab
    return known.has(found) ? found + rest : word
  })
}
