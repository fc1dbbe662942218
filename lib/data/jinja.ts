/**
 * Chat templates: Jinja, over the kept library @huggingface/jinja, as transformers renders it, in bounded time and
 * memory. A template comes from a file of strangers, and loops in loops or a string that doubles would never end.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { fail } from '../base/errors.js'
import { pythonStrings } from './pythonStrings.js'

/** What is used of the library's interpreter. Its own types do not resolve for a module of this kind. */
interface Value {
  readonly type: string
  readonly value: unknown
}
interface Statement {
  readonly type: string
}
interface Scope {
  set(name: string, value: unknown): unknown
}
interface LibraryInterpreter {
  evaluate(statement: Statement | undefined, scope: Scope): Value
  run(program: Statement): Value
}
const LibraryInterpreter = Interpreter as unknown as new (scope: Scope) => LibraryInterpreter
const newScope = (): Scope => new (Environment as unknown as new () => Scope)()
const parseTemplate = (source: string): Statement => (parse as (tokens: unknown) => Statement)((tokenize as (source: string, options: object) => unknown)(source, { lstrip_blocks: true, trim_blocks: true }))

/** No template in use comes near these. */
const longestSource = 1 << 18
const longestSpace = 1000
const mostSteps = 500_000
const mostItems = 10_000
const largestInteger = 100_000
const mostMilliseconds = 1500
/** Characters of one string, and of all strings made on the way, besides a multiple of what is put in. */
const longestString = 1 << 18
const mostProduced = 1 << 26

/** What a render may not exceed; told apart from errors of the template itself. */
class LimitError extends Error {}

class BoundedInterpreter extends LibraryInterpreter {
  readonly #longest: number
  readonly #mostProduced: number
  readonly #scope: Scope
  readonly #deadline = performance.now() + mostMilliseconds
  #steps = 0
  #produced = 0

  constructor(scope: Scope, inputLength: number) {
    super(scope)
    this.#scope = scope
    this.#longest = longestString + 4 * inputLength
    this.#mostProduced = mostProduced + 50 * inputLength
  }

  override evaluate(statement: Statement | undefined, scope: Scope): Value {
    if (++this.#steps > mostSteps) throw new LimitError(`more than ${mostSteps} steps`)
    if ((this.#steps & 63) === 0 || statement?.type === 'For') this.#checkTime()
    const value = this.#asPython(statement, scope) ?? super.evaluate(statement, scope)
    if (value.type === 'StringValue') {
      const { length } = value.value as string
      this.#produced += length
      if (length > this.#longest || this.#produced > this.#mostProduced) throw new LimitError(`a text of more than ${this.#longest} characters`)
    } else if (value.type === 'ArrayValue' || value.type === 'TupleValue') {
      const items = (value.value as unknown[]).length
      this.#produced += items
      if (items > Math.max(mostItems, this.#longest)) throw new LimitError(`a list of ${items} items`)
    } else if (value.type === 'IntegerValue' && Math.abs(value.value as number) > largestInteger) {
      throw new LimitError(`the number ${String(value.value)}`)
    }
    return value
  }

  /** A method or filter of strings where the library's is not Python's; null for everything else. */
  #asPython(statement: Statement | undefined, scope: Scope): Value | null {
    const node = statement as Node | undefined
    if (node?.type === 'FilterExpression') {
      const name = node.filter?.value ?? node.filter?.callee?.value
      if (name !== 'trim' && name !== 'capitalize' && name !== 'length' && name !== 'count') return null
      const operand = this.evaluate(node.operand, scope)
      if (typeof operand.value !== 'string') return null
      if (name === 'length' || name === 'count') return this.#make('IntegerLiteral', Array.from(operand.value).length)
      const argument = node.filter?.args?.[0]
      return this.#make('StringLiteral', pythonStrings[name]!(operand.value, argument === undefined ? undefined : textOf(this.evaluate(argument, scope))))
    }
    const name = node?.type === 'MemberExpression' && node.computed !== true ? node.property?.value : null
    if (typeof name !== 'string' || !Object.hasOwn(pythonStrings, name)) return null
    const object = this.evaluate(node!.object, scope)
    const text = object.value
    if (typeof text !== 'string') return null
    const call = (args: readonly Value[]): Value => this.#make('StringLiteral', pythonStrings[name]!(text, textOf(args[0])))
    return new (super.evaluate({ type: 'Identifier', value: 'raise_exception' } as Statement, scope).constructor as new (call: unknown) => Value)(call)
  }

  /** A value of the library's own class. */
  #make(type: 'IntegerLiteral' | 'StringLiteral', value: number | string): Value {
    return super.evaluate({ type, value } as Statement, this.#scope)
  }

  #checkTime(): void {
    if (performance.now() > this.#deadline) throw new LimitError(`more than ${mostMilliseconds / 1000} seconds`)
  }
}

/** The fields of the nodes that are looked at. */
interface Node extends Statement {
  readonly computed?: boolean
  readonly object?: Statement
  readonly operand?: Statement
  readonly property?: { readonly value?: unknown }
  readonly filter?: { readonly value?: unknown; readonly callee?: { readonly value?: unknown }; readonly args?: readonly Statement[] }
}

function textOf(value: Value | undefined): string | undefined {
  return typeof value?.value === 'string' ? value.value : undefined
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop]
  if (step === 0) throw new Error('range() step must not be zero')
  const count = Math.max(0, Math.ceil((to - from) / step))
  if (!(count <= mostItems)) throw new LimitError(`a range of ${count} numbers`)
  return Array.from({ length: count }, (_, i) => from + i * step)
}

/** Names of the variables that hold the marks around a {% generation %} block. */
const openName = 'threefold_open'
const closeName = 'threefold_close'

/**
 * {% generation %} marks what the assistant says; transformers runs it as a call block. The kept library drops it, so it
 * becomes a call of a macro that puts a mark on either side. The line end behind the macro goes with its tag.
 */
function withGeneration(source: string): string {
  const calls = source
    .replaceAll(/\{%(-?)\s*generation\s*(-?)%\}/g, '{%$1 call threefold_generation() $2%}')
    .replaceAll(/\{%(-?)\s*endgeneration\s*(-?)%\}/g, '{%$1 endcall $2%}')
  return `{% macro threefold_generation() %}{{ ${openName} }}{{ caller() }}{{ ${closeName} }}{% endmacro %}\n${calls}`
}

export interface Jinja {
  /** True where {% generation %} says which part of the text is the assistant's. */
  readonly marksGeneration: boolean
  /** Renders with the given variables; the marks stand around every generation block. */
  render(values: Readonly<Record<string, unknown>>, marks?: { readonly open: string; readonly close: string }): string
}

const cure = 'to correct chat_template in the tokenizer files'
const compiled = new Map<string, Jinja>()
const mostCompiled = 16

/** Parses a template, once. Errors name `file`, where it stands. */
export function compileJinja(source: string, file: string): Jinja {
  const key = `${file}\n${source}`
  const known = compiled.get(key)
  if (known !== undefined) return known
  if (compiled.size >= mostCompiled) compiled.clear()
  const jinja = make(source, file)
  compiled.set(key, jinja)
  return jinja
}

function make(source: string, file: string): Jinja {
  if (source.length > longestSource) fail('chat template', `a template of at most ${longestSource} characters in ${file}`, `${source.length} characters`, cure)
  // The library's own patterns take time in the square of such a run.
  if (new RegExp(`\\s{${longestSpace}}`).test(source)) fail('chat template', `less than ${longestSpace} white space characters in a row in ${file}`, 'more', cure)
  const marksGeneration = /\{%-?\s*generation\s*-?%\}/.test(source)
  let program: Statement
  try {
    program = parseTemplate(marksGeneration ? withGeneration(source) : source)
  } catch (error) {
    fail('chat template', `a Jinja template in ${file}`, shortened(error), cure)
  }
  return { marksGeneration, render: (values, marks = { open: '', close: '' }) => render(program, { ...values, [openName]: marks.open, [closeName]: marks.close }, file) }
}

function render(program: Statement, values: Readonly<Record<string, unknown>>, file: string): string {
  const scope = newScope()
  const constants = { false: false, true: true, none: null, False: false, True: true, None: null }
  const functions = { range, raise_exception: (message: unknown) => raise(message), strftime_now: (format: unknown) => strftime(String(format)) }
  for (const [name, value] of Object.entries({ ...constants, ...functions, ...values })) scope.set(name, value)
  const interpreter = new BoundedInterpreter(scope, JSON.stringify(values).length)
  try {
    return String(interpreter.run(program).value)
  } catch (error) {
    if (error instanceof LimitError) {
      fail('chat template', `a chat template that is rendered in reasonable time and size in ${file}`, error.message, cure)
    }
    fail('chat template', `messages that the chat template in ${file} accepts`, shortened(error), 'the roles and the order that the model was trained with')
  }
}

function raise(message: unknown): never {
  throw new Error(String(message))
}

function strftime(format: string): string {
  const now = new Date()
  const two = (n: number): string => String(n).padStart(2, '0')
  const name = (options: Intl.DateTimeFormatOptions): string => new Intl.DateTimeFormat('en-US', options).format(now)
  const parts: Readonly<Record<string, () => string>> = {
    Y: () => String(now.getFullYear()),
    m: () => two(now.getMonth() + 1),
    d: () => two(now.getDate()),
    H: () => two(now.getHours()),
    M: () => two(now.getMinutes()),
    S: () => two(now.getSeconds()),
    b: () => name({ month: 'short' }),
    B: () => name({ month: 'long' }),
    a: () => name({ weekday: 'short' }),
    A: () => name({ weekday: 'long' }),
    '%': () => '%',
  }
  return format.replaceAll(/%(.)/g, (all, letter: string) => parts[letter]?.() ?? raise(`strftime_now with "${all}"`))
}

function shortened(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.length <= 300 ? text : `${text.slice(0, 297)}...`
}
