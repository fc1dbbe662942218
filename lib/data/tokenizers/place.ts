/** A value inside a parsed JSON file that knows where it stands, so that every error about it names file and field. */
import { fail } from '../../base/errors.js'
import { isJsonObject, kindOf } from '../../base/json.js'

const cure = 'the file that came with the model'
/** Parts of a tokenizer are nested two or three deep. */
const mostNested = 64

export class Place {
  readonly value: unknown
  readonly #file: string
  readonly #path: string
  readonly #depth: number

  constructor(value: unknown, file: string, path = '', depth = 0) {
    this.value = value
    this.#file = file
    this.#path = path
    this.#depth = depth
    if (depth > mostNested) this.fail(`parts nested at most ${mostNested} deep`, 'more')
  }

  #inner(value: unknown, path: string): Place {
    return new Place(value, this.#file, path, this.#depth + 1)
  }

  /** "decoders[1].type in tokenizer.json" */
  get where(): string {
    return this.#path === '' ? this.#file : `"${this.#path}" of ${this.#file}`
  }

  fail(expected: string, received = shown(this.value)): never {
    fail('tokenizer', `${expected} in ${this.where}`, received, cure)
  }

  /** A field of an object; its value is undefined where it is not there. */
  field(name: string): Place {
    const value = this.object()
    return this.#inner(Object.hasOwn(value, name) ? value[name] : undefined, this.#path === '' ? name : `${this.#path}.${name}`)
  }

  get isMissing(): boolean {
    return this.value === undefined || this.value === null
  }

  object(): Readonly<Record<string, unknown>> {
    if (!isJsonObject(this.value)) this.fail('a JSON object', kindOf(this.value))
    return this.value
  }

  items(): Place[] {
    if (!Array.isArray(this.value)) this.fail('a list', kindOf(this.value))
    return this.value.map((item: unknown, index) => this.#inner(item, `${this.#path}[${index}]`))
  }

  /** An item of a list; its value is undefined where the list is too short. */
  item(index: number): Place {
    if (!Array.isArray(this.value)) this.fail('a list', kindOf(this.value))
    return this.#inner(this.value[index], `${this.#path}[${index}]`)
  }

  string(): string {
    if (typeof this.value !== 'string') this.fail('a string', kindOf(this.value))
    return this.value
  }

  /** A string, or `otherwise` where there is none. */
  stringOr<T extends string | null>(otherwise: T): string | T {
    return this.isMissing ? otherwise : this.string()
  }

  booleanOr(otherwise: boolean): boolean {
    if (this.isMissing) return otherwise
    if (typeof this.value !== 'boolean') this.fail('true or false', kindOf(this.value))
    return this.value
  }

  /** A whole number from 0 on. */
  count(most = 2 ** 31 - 1): number {
    const { value } = this
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most) this.fail(`a whole number from 0 to ${most}`)
    return value
  }

  countOr(otherwise: number, most?: number): number {
    return this.isMissing ? otherwise : this.count(most)
  }

  number(): number {
    if (typeof this.value !== 'number') this.fail('a number', kindOf(this.value))
    return this.value
  }

  /** One character. */
  characterOr(otherwise: string): string {
    const text = this.stringOr(otherwise)
    if (Array.from(text).length !== 1) this.fail('one character')
    return text
  }
}

function shown(value: unknown): string {
  if (typeof value === 'object' || value === undefined) return kindOf(value)
  const text = JSON.stringify(value)
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`
}
