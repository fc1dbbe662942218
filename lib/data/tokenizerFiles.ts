/** What a model folder says about its tokenizer besides tokenizer.json: special tokens, chat template, files to copy. */
import { copyFile, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../base/errors.js'
import { failOnFile, pathExists, readJsonIfThere } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'

/** The files that make up a tokenizer; a model that is saved takes along those that are there. */
export const tokenizerFileNames = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  'tokenizer.model',
] as const

/** Copies the tokenizer's files from one folder into another that exists; returns the names that were there. */
export async function copyTokenizer(from: string, to: string): Promise<string[]> {
  const copied: string[] = []
  for (const name of tokenizerFileNames) {
    const source = path.join(from, name)
    if (!(await pathExists(source))) continue
    try {
      await copyFile(source, path.join(to, name))
    } catch (error) {
      failOnFile(error, `to copy ${source} to ${to}`)
    }
    copied.push(name)
  }
  return copied
}

/** Ids with a meaning of their own; null where the folder does not name one. */
export interface SpecialIds {
  readonly bosId: number | null
  /** The end token that is appended to answers. */
  readonly eosId: number | null
  /** Every id that ends an answer: eosId first, then those of generation_config.json and config.json. */
  readonly eosIds: readonly number[]
  readonly padId: number | null
}

/** The JSON files around tokenizer.json, an empty object for one that is not there. */
export interface TokenizerSettings {
  readonly tokenizerConfig: Readonly<Record<string, unknown>>
  readonly specialTokensMap: Readonly<Record<string, unknown>>
  readonly generationConfig: Readonly<Record<string, unknown>>
  readonly modelConfig: Readonly<Record<string, unknown>>
  readonly chatTemplate: string | null
  /** Where the template stands, for errors. */
  readonly chatTemplateFile?: string | null
}

async function readObject(file: string): Promise<Record<string, unknown>> {
  const value = (await readJsonIfThere(file)) ?? {}
  if (isJsonObject(value)) return value
  fail('tokenizer', `a JSON object in ${file}`, kindOf(value), 'the file that came with the model')
}

export async function readTokenizerSettings(folder: string): Promise<TokenizerSettings> {
  const tokenizerConfig = await readObject(path.join(folder, 'tokenizer_config.json'))
  return {
    tokenizerConfig,
    specialTokensMap: await readObject(path.join(folder, 'special_tokens_map.json')),
    generationConfig: await readObject(path.join(folder, 'generation_config.json')),
    modelConfig: await readObject(path.join(folder, 'config.json')),
    ...(await readChatTemplate(folder, tokenizerConfig)),
  }
}

interface FoundTemplate {
  readonly chatTemplate: string | null
  readonly chatTemplateFile: string | null
}

async function readChatTemplate(folder: string, tokenizerConfig: Readonly<Record<string, unknown>>): Promise<FoundTemplate> {
  const jinja = path.join(folder, 'chat_template.jinja')
  if (await pathExists(jinja)) {
    try {
      return { chatTemplate: await readFile(jinja, 'utf8'), chatTemplateFile: jinja }
    } catch (error) {
      failOnFile(error, `to read ${jinja}`)
    }
  }
  const separate = path.join(folder, 'chat_template.json')
  const own = (await readObject(separate))['chat_template']
  const chatTemplate = defaultTemplate(own ?? tokenizerConfig['chat_template'])
  const chatTemplateFile = own === undefined || own === null ? path.join(folder, 'tokenizer_config.json') : separate
  return { chatTemplate, chatTemplateFile: chatTemplate === null ? null : chatTemplateFile }
}

/** A template, or of several named ones the one that transformers takes: "default". */
function defaultTemplate(template: unknown): string | null {
  if (typeof template === 'string') return template
  const named: unknown[] = Array.isArray(template) ? template : []
  for (const entry of named) {
    if (isJsonObject(entry) && entry['name'] === 'default' && typeof entry['template'] === 'string') return entry['template']
  }
  return null
}

/** A token written as "</s>" or as {"content": "</s>", ...}. */
function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value
  return isJsonObject(value) && typeof value['content'] === 'string' ? value['content'] : null
}

/** The text of "bos_token" and the like, from tokenizer_config.json, else special_tokens_map.json. */
export function specialText(settings: TokenizerSettings, name: string): string | null {
  return tokenText(settings.tokenizerConfig[name]) ?? tokenText(settings.specialTokensMap[name])
}

/** "eos_token_id": 2 or [2, 7] -> ids. */
function idsOf(value: unknown): number[] {
  return (Array.isArray(value) ? (value as unknown[]) : [value]).filter(
    (id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0,
  )
}

/**
 * Finds the special ids: the tokenizer's own words first (looked up by `idOf`), then generation_config.json, then
 * config.json. Pass `idOf: () => null` for a folder without a tokenizer.
 */
export function findSpecialIds(settings: TokenizerSettings, idOf: (token: string) => number | null): SpecialIds {
  const find = (name: 'bos' | 'eos' | 'pad'): number[] => {
    const text = specialText(settings, `${name}_token`)
    const own = text === null ? null : idOf(text)
    const key = `${name}_token_id`
    return [...(own === null ? [] : [own]), ...idsOf(settings.generationConfig[key]), ...idsOf(settings.modelConfig[key])]
  }
  const eos = find('eos')
  const eosId = eos[0] ?? null
  // config.json's list only where it is the source of eosId: under a tokenizer of another model it names other tokens.
  const listed = [settings.generationConfig, settings.modelConfig].map((config) => idsOf(config['eos_token_id']))
  const stops = new Set([...(eosId === null ? [] : [eosId]), ...listed[0]!, ...(listed[1]![0] === eosId ? listed[1]! : [])])
  return { bosId: find('bos')[0] ?? null, eosId, eosIds: [...stops], padId: find('pad')[0] ?? null }
}

/** The special ids of a model folder that has no tokenizer, from its config files. */
export async function readSpecialIds(folder: string): Promise<SpecialIds> {
  return findSpecialIds(await readTokenizerSettings(folder), () => null)
}
