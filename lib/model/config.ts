// Reading config.json field by field: a value that is not understood is refused by name, never ignored.
import { fail } from '../base/errors.js'
import type { Activation } from '../binding/native.js'

export type ConfigJson = Record<string, unknown>

/** Typed access to the fields of one config.json; `where` names the file in errors. */
export class ConfigReader {
  constructor(
    readonly json: ConfigJson,
    readonly where: string,
  ) {}

  refuse(name: string, expected: string): never {
    fail('config', `${expected} for "${name}" in ${this.where}`, JSON.stringify(this.json[name]), 'a model this version supports')
  }

  has(name: string): boolean {
    return this.json[name] !== undefined && this.json[name] !== null
  }

  integer(name: string, fallback?: number): number {
    const v = this.has(name) ? this.json[name] : fallback
    if (typeof v !== 'number' || !Number.isInteger(v) || v <= 0) this.refuse(name, 'a whole number above 0')
    return v
  }

  /** A token id; null in the file means none. */
  id(name: string, fallback: number | null): number | null {
    const v = this.json[name] === undefined ? fallback : this.json[name]
    if (v === null) return null
    return typeof v === 'number' && Number.isInteger(v) ? v : this.refuse(name, 'a token id')
  }

  number(name: string, fallback: number): number {
    const v = this.has(name) ? this.json[name] : fallback
    if (typeof v !== 'number' || !Number.isFinite(v)) this.refuse(name, 'a number')
    return v
  }

  flag(name: string, fallback: boolean): boolean {
    const v = this.has(name) ? this.json[name] : fallback
    if (typeof v !== 'boolean') this.refuse(name, 'true or false')
    return v
  }

  /** Refuses any value but `only` (absent counts as `only`). */
  only(name: string, only: unknown): void {
    if (this.has(name) && this.json[name] !== only) this.refuse(name, JSON.stringify(only))
  }

  activation(name: string, fallback: string): Activation {
    const v = this.has(name) ? this.json[name] : fallback
    const known: Record<string, Activation> = {
      relu: 'relu',
      gelu: 'gelu',
      gelu_new: 'gelu_tanh',
      gelu_pytorch_tanh: 'gelu_tanh',
      gelu_fast: 'gelu_tanh',
      silu: 'silu',
      swish: 'silu',
    }
    return known[String(v)] ?? this.refuse(name, `one of ${Object.keys(known).join(', ')}`)
  }
}
