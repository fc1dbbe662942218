// What a subcommand is: a table of options and a function. The table makes the flags and the help.
import type { OptionTable } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import type { Interrupts } from './interrupts.js'

/** Where a command runs. */
export interface Context {
  hooks: RunHooks
  json: boolean
  quiet: boolean
  dryRun: boolean
  interrupts: Interrupts
  /** A line of result on stdout. */
  print(line: string): void
}

/** What a command gives back: an object for --json, text for people; null where it printed its result itself. */
export type Outcome = { json: unknown; text: string } | null

export interface CommandSpec {
  name: string
  summary: string
  options: OptionTable
  /** Other spellings of a flag: "actor-model" of "actor-model-name-or-path". */
  aliases?: Record<string, string>
  /** The flag that the first word is the value of, when it stands alone. */
  positional?: string
  /** Has --dry-run. */
  training?: boolean
  /** `given`: what stood on the command line, as text; the function called with it checks it against the same table. */
  run(given: Record<string, unknown>, context: Context): Promise<Outcome>
}

/** As the training commands call it. */
export const modelAlias = { 'model-name-or-path': 'model' }

/** The text of the command line handed to a typed function, which checks every value at its start. */
export function asGiven<T>(given: Record<string, unknown>): T {
  return given as T
}
