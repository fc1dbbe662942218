// How a command ends: exit status, and an error in its one shape.
import { Interrupted, ThreefoldError, UsageError, asThreefoldError } from '../base/errors.js'

export const exitStatus = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** Prints an error where it belongs (--json: stdout, one line; else stderr, one line) and gives the exit status. */
export function reportError(error: unknown, where: string, json: boolean): number {
  if (process.env['THREEFOLD_DEBUG'] === '1') process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  if (error instanceof Interrupted) {
    if (json) process.stdout.write(JSON.stringify({ interrupted: { saved: error.saved } }) + '\n')
    else process.stderr.write(`threefold: ${error.message}\n`)
    return exitStatus.interrupted
  }
  const known = error instanceof ThreefoldError ? error : asThreefoldError(error, where)
  if (json) process.stdout.write(JSON.stringify(known) + '\n')
  else process.stderr.write(known.message + '\n')
  return known instanceof UsageError ? exitStatus.usage : exitStatus.failed
}

interface ParserError {
  code: string
  message: string
}

/** True for what commander throws, help and version included. */
export function isParserError(error: unknown): error is ParserError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('commander.')
}

/** Commander's words in our shape; null where it only showed help or the version. */
export function usageError({ code, message }: ParserError, command: string | null): UsageError | null {
  const where = command ?? 'threefold'
  const help = command ? `threefold ${command} --help` : 'threefold --help'
  const quoted = /'([^']+)'/.exec(message)?.[1] ?? message.replace(/^error: /, '').split('\n')[0]!
  const cure = /Did you mean (?:one of )?([^?]+)\?/.exec(message)?.[1] ?? help
  switch (code) {
    case 'commander.help':
    case 'commander.helpDisplayed':
    case 'commander.version':
      return null
    case 'commander.unknownOption':
      return new UsageError(where, 'a flag it knows', quoted, cure)
    case 'commander.unknownCommand':
      return new UsageError(where, 'a command it knows', quoted, cure)
    case 'commander.optionMissingArgument':
      return new UsageError(where, `a value after ${quoted.split(' ')[0]}`, 'none', help)
    case 'commander.excessArguments':
      return new UsageError(where, 'flags only', 'a word that belongs to no flag', help)
    default:
      return new UsageError(where, 'a command line it understands', message.replace(/^error: /, ''), help)
  }
}
