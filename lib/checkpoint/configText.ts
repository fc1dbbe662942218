// A config.json that is written again as it was read. JavaScript has one kind of number and Python two: 5.0 would become 5,
// which transformers refuses where it expects a float.
import { fail } from '../base/errors.js'
import { parseJson } from '../base/files.js'
import { isJsonObject, kindOf, objectMembers } from '../base/json.js'
import type { ConfigJson } from '../model/config.js'

export class ConfigText {
  private constructor(
    readonly json: ConfigJson,
    /** The text of each value. */
    private readonly values: ReadonlyMap<string, string>,
  ) {}

  /** Errors: no JSON, or no object, each naming the file. */
  static parse(text: string, file: string): ConfigText {
    const plain = text.startsWith('\ufeff') ? text.slice(1) : text
    const json = parseJson(plain, file)
    if (!isJsonObject(json)) fail('model', `a JSON object in ${file}`, kindOf(json), 'the config.json that came with the model')
    return new ConfigText(json, objectMembers(plain))
  }

  static of(json: ConfigJson): ConfigText {
    return ConfigText.parse(JSON.stringify(json), 'config.json')
  }

  /** With these fields; one that is undefined goes. */
  with(changes: ConfigJson): ConfigText {
    const values = new Map(this.values)
    const json: ConfigJson = Object.fromEntries(Object.entries({ ...this.json, ...changes }).filter(([, value]) => value !== undefined))
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined) values.delete(name)
      else values.set(name, JSON.stringify(value, null, 2).replaceAll('\n', '\n  '))
    }
    return new ConfigText(json, values)
  }

  toString(): string {
    return `{\n${Array.from(this.values, ([name, value]) => `  ${JSON.stringify(name)}: ${value}`).join(',\n')}\n}\n`
  }
}
