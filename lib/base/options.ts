// Typed options: each is declared once, with kind, default and help; library calls, the command line, --dry-run and the
// docs all read the same declaration.
import { UsageError } from './errors.js'

export type OptionKind = 'text' | 'texts' | 'integer' | 'number' | 'flag' | 'choice' | 'later'

export interface Option<V> {
  kind: OptionKind
  help: string
  /** Absent: the option is required. */
  default?: V
  min?: number
  max?: number
  choices?: readonly string[]
  /** What a text must match. */
  pattern?: RegExp
  /** A default that depends on the other options. */
  derive?: (resolved: Record<string, unknown>) => V
  /** Options of which one must be on (not false, 0, empty or null) for this one to change anything. */
  needs?: readonly string[]
  /** For kind "later": the values that change nothing (absent: every value), and what it comes with. */
  noops?: readonly unknown[]
  comesWith?: string
  unit?: string
}

export type OptionTable = Record<string, Option<unknown>>
export type Resolved<T extends OptionTable> = { [K in keyof T]: T[K] extends Option<infer V> ? V : never }
type OptionalKeys<T extends OptionTable> = { [K in keyof T]: T[K] extends { default: unknown } ? K : never }[keyof T]
/** What a caller may give: options with a default may be left out. */
export type Given<T extends OptionTable> = Partial<Pick<Resolved<T>, OptionalKeys<T>>> & Omit<Resolved<T>, OptionalKeys<T>>

type WithDefault<V> = Option<V> & { default: V }
interface Range {
  min?: number
  max?: number
  unit?: string
}

/** Declares options: `option.integer(16, 'rows per micro-batch', {min: 1})`. */
export const option = {
  text: (value: string, help: string): WithDefault<string> => ({ kind: 'text', default: value, help }),
  /** Text that matches `pattern`; `help` says which. */
  pattern: (value: string, pattern: RegExp, help: string): WithDefault<string> => ({ kind: 'text', default: value, pattern, help }),
  optionalText: (help: string): WithDefault<string | null> => ({ kind: 'text', default: null, help }),
  requiredText: (help: string): Option<string> => ({ kind: 'text', help }),
  texts: (help: string): WithDefault<readonly string[]> => ({ kind: 'texts', default: [], help }),
  requiredTexts: (help: string): Option<readonly string[]> => ({ kind: 'texts', help }),
  integer: (value: number, help: string, range: Range = {}): WithDefault<number> => ({ kind: 'integer', default: value, help, ...range }),
  optionalInteger: (help: string, range: Range = {}): WithDefault<number | null> => ({ kind: 'integer', default: null, help, ...range }),
  number: (value: number, help: string, range: Range = {}): WithDefault<number> => ({ kind: 'number', default: value, help, ...range }),
  optionalNumber: (help: string, range: Range = {}): WithDefault<number | null> => ({ kind: 'number', default: null, help, ...range }),
  flag: (value: boolean, help: string): WithDefault<boolean> => ({ kind: 'flag', default: value, help }),
  choice: <C extends string>(value: C, choices: readonly C[], help: string, derive?: (resolved: Record<string, unknown>) => C): WithDefault<C> => ({
    kind: 'choice',
    default: value,
    choices,
    help,
    ...(derive && { derive }),
  }),
  /** A flag of a feature that is not there yet: accepted where it changes nothing, refused by name otherwise. */
  later: <V>(value: V, comesWith: string, noops: readonly unknown[] = [value]): WithDefault<V> => ({
    kind: 'later',
    default: value,
    noops,
    comesWith,
    help: `accepted at ${JSON.stringify(value)}; comes with ${comesWith}`,
  }),
  /** A flag whose every value is accepted, because what it tunes is not there or is off; `why` says so. */
  unused: (value: string | number | boolean | null, why: string): WithDefault<unknown> => ({
    kind: 'later',
    default: value,
    ...(typeof value === 'boolean' ? { noops: [true, false] } : {}),
    comesWith: `nothing: ${why}`,
    help: `no effect: ${why}`,
  }),
}

/** Options that change nothing unless one of those named in `needs` is on. */
export function needing<T extends OptionTable>(needs: readonly string[], table: T): T {
  return Object.fromEntries(Object.entries(table).map(([key, o]) => [key, { ...o, needs }])) as T
}

/** What was given in vain, in words; null for nothing. */
export function givenInVain(table: OptionTable, given: Readonly<Record<string, unknown>>, resolved: Readonly<Record<string, unknown>>): string | null {
  const on = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value))
  const idle = Object.entries(table).filter(([key, { needs, default: value }]) => needs && given[key] !== undefined && !needs.some((name) => on(resolved[name])) && !sameValue(value, resolved[key]))
  return idle.length === 0 ? null : idle.map(([key, { needs }]) => `${flagName(key)} changes nothing without ${needs!.map(flagName).join(' or ')}`).join('; ')
}

/** "maxSeqLen" -> "--max-seq-len" */
export function flagName(key: string): string {
  return '--' + key.replace(/[A-Z]/g, (c) => '-' + c.toLowerCase())
}

function describe(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value)
}

/** Equal as words of a command line, where "0.0" is 0. */
export function sameValue(value: unknown, given: unknown): boolean {
  return String(value) === String(given) || (typeof value === 'number' && typeof given === 'string' && given.trim() !== '' && Number(given) === value)
}

/** One value checked against its declaration; `given` may be text from a command line. */
function check(where: string, key: string, o: Option<unknown>, given: unknown): unknown {
  const wrong = (expected: string, cure = `threefold ${where} --help`): never => {
    throw new UsageError(flagName(key), expected, describe(given), cure)
  }
  const range = `${o.min === undefined ? '' : ` of at least ${o.min}`}${o.max === undefined ? '' : `${o.min === undefined ? ' of' : ' and'} at most ${o.max}`}`
  if (given === null && o.default === null) return null
  switch (o.kind) {
    case 'integer':
    case 'number': {
      const n = typeof given === 'string' && given.trim() !== '' ? Number(given) : given
      const what = (o.kind === 'integer' ? 'a whole number' : 'a number') + range
      if (typeof n !== 'number' || !Number.isFinite(n) || (o.kind === 'integer' && !Number.isInteger(n))) return wrong(what)
      return (o.min !== undefined && n < o.min) || (o.max !== undefined && n > o.max) ? wrong(what) : n
    }
    case 'flag':
      if (given === true || given === 'true') return true
      return given === false || given === 'false' ? false : wrong('true or false')
    case 'choice':
      return o.choices!.includes(given as string) ? given : wrong(`one of ${o.choices!.join(', ')}`)
    case 'text':
      if (typeof given !== 'string' || given === '') return wrong('text')
      return !o.pattern || o.pattern.test(given) ? given : wrong(o.help)
    case 'texts': {
      const list = typeof given === 'string' ? [given] : given
      return Array.isArray(list) && list.every((s) => typeof s === 'string' && s !== '') ? list : wrong('a list of texts')
    }
    case 'later':
      if (!o.noops || o.noops.some((n) => sameValue(n, given))) return o.default
      return wrong(`${o.noops.filter((n) => n !== '').map(String).join(' or ')} in this version`, `leaving it out; it comes with ${o.comesWith}`)
  }
}

/** Fills in defaults and checks every value. Errors: an unknown name, a missing required one, a value out of range. */
export function resolveOptions<T extends OptionTable>(where: string, table: T, given: Record<string, unknown>): Resolved<T> {
  const known = new Set(Object.keys(table))
  for (const key of Object.keys(given))
    if (!known.has(key)) throw new UsageError(where, 'options it knows', flagName(key), `threefold ${where} --help`)
  const out: Record<string, unknown> = {}
  for (const [key, o] of Object.entries(table)) {
    const value = given[key]
    if (value === undefined && !('default' in o)) throw new UsageError(where, `${flagName(key)} (${o.help})`, 'none', `threefold ${where} --help`)
    out[key] = value === undefined ? o.default : check(where, key, o, value)
  }
  for (const [key, o] of Object.entries(table)) if (o.derive && given[key] === undefined) out[key] = o.derive(out)
  return out as Resolved<T>
}
