#!/usr/bin/env node
// The command line: parse, call, print. Every flag is declared in the option tables of lib/stages and lib/demo.
import { UsageError } from '../base/errors.js'
import { Progress } from '../base/progress.js'
import { packageVersion } from '../binding/load.js'
import type { CommandSpec, Context } from './command.js'
import { commands, laterCommands } from './commands.js'
import { addFlags, normalize } from './flags.js'
import { Interrupts } from './interrupts.js'
import { exitStatus, isParserError, reportError, usageError } from './report.js'

const about = `Train ChatGPT-style models in InstructGPT's three steps: SFT, reward model, PPO.`
const footer = `
Try:
  threefold demo                                   the three steps on a built-in task, in minutes
  threefold sft --model-name-or-path M --data-path D.jsonl --output-dir runs/sft
  threefold <command> --help                       every flag with type, unit and default

Underscore spellings of flags are accepted. Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
Coming in later versions: ${laterCommands.join(', ')}.`

/** Runs one command and returns the exit status. Nothing is thrown. */
async function main(given: readonly string[]): Promise<number> {
  const argv = given[0] === 'help' ? [...given.slice(1, 2), '--help'] : given
  const json = argv.some((word) => word === '--json' || word === '--json=true')
  const spec = commands.find((c) => c.name === argv[0])
  try {
    return await parse(argv, spec)
  } catch (error) {
    const usage = isParserError(error) ? usageError(error, spec?.name ?? null) : error
    return usage === null ? exitStatus.done : reportError(usage, spec?.name ?? 'threefold', json)
  }
}

async function parse(argv: readonly string[], spec: CommandSpec | undefined): Promise<number> {
  const { Command, Option } = await import('commander')
  const program = new Command('threefold')
  const width = Math.max(80, Math.min(process.stdout.columns ?? 110, 120))
  // commander's own words about errors go through usageError
  const quietly = { writeErr: () => undefined, outputError: () => undefined }
  program.description(about).version(packageVersion(), '-V, --version').addHelpText('after', footer).helpCommand(false).configureHelp({ helpWidth: width }).exitOverride().configureOutput(quietly)
  for (const c of commands) {
    const sub = program.command(c.name).description(c.summary).configureHelp({ helpWidth: width })
    sub.allowExcessArguments(false)
    if (c === spec) addFlags(sub, Option, c)
    sub.action((given: Record<string, unknown>) => runCommand(c, given).then((status) => void (result = status)))
  }
  let result: number = exitStatus.done
  if (argv.length === 0) {
    process.stdout.write(program.helpInformation() + footer + '\n')
    return result
  }
  const later = laterCommands.find((name) => name === argv[0])
  if (later) throw new UsageError(later, 'a command of this version', `"${later}", which comes with a later one`, 'threefold --help for those that are there')
  const words = spec ? [spec.name, ...normalize(argv.slice(1), spec)] : argv
  await program.parseAsync(words, { from: 'user' })
  return result
}

async function runCommand(spec: CommandSpec, all: Record<string, unknown>): Promise<number> {
  const { json, quiet, dryRun, ...given } = all
  const on = (value: unknown, flag: string): boolean => {
    if (value === undefined || value === false || value === 'false') return false
    if (value === true || value === 'true') return true
    throw new UsageError(flag, 'true or false', JSON.stringify(value), flag)
  }
  const progress = new Progress(process.stderr, on(quiet, '--quiet'))
  const interrupts = new Interrupts(() => spec.training && progress.note(`${spec.name}: stops after this step and saves; Ctrl-C again ends at once`))
  const context: Context = {
    hooks: { progress, signal: interrupts.signal },
    json: on(json, '--json'),
    quiet: on(quiet, '--quiet'),
    dryRun: on(dryRun, '--dry-run'),
    interrupts,
    print: (line) => void process.stdout.write(line + '\n'),
  }
  interrupts.install()
  try {
    const outcome = await spec.run(given, context)
    if (outcome) context.print(context.json ? JSON.stringify(outcome.json) : outcome.text)
    return exitStatus.done
  } finally {
    progress.end()
    interrupts.dispose()
  }
}

// whoever read the progress is gone, which must not end a run
process.stderr.on('error', () => undefined)
// `threefold generate | head`: the reader is gone, which is no error of ours
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.stderr.write(`[stdout] expected room for the output, received ${error.code ?? error.message}. Try another place, or --output.\n`)
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})
process.exitCode = await main(process.argv.slice(2))
