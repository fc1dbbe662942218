// generation_config.json: how a checkpoint's makers want answers drawn, with transformers' meaning of each field.
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import { failOnFile, pathExists, readJsonIfThere, writeJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import type { SpecialIds } from '../data/tokenizerFiles.js'

export const generationConfigName = 'generation_config.json'

/** What it says; undefined where it says nothing. The ids that end an answer are the tokenizer's matter. */
export interface GenerationConfig {
  /** 0 = greedy ("do_sample": false). */
  temperature?: number
  topK?: number
  topP?: number
  minP?: number
  repetitionPenalty?: number
  maxNewTokens?: number
  /** Texts that end an answer. */
  stop?: string[]
  /** Ids that are never drawn. */
  banned?: number[]
  /** Fields with a value that changes the draw and has no meaning here. */
  ignored: string[]
}

/** Carries the file over, if there is one. */
export async function copyGenerationConfig(from: string, to: string): Promise<boolean> {
  const source = join(from, generationConfigName)
  if (!(await pathExists(source))) return false
  await copyFile(source, join(to, generationConfigName)).catch((error: unknown) => failOnFile(error, `to copy ${source} to ${to}`))
  return true
}

/** Carries the file over, or writes the ids that a generator needs to know, as transformers does for a model without one. */
export async function writeGenerationConfig(from: string, to: string, { bosId, eosId, padId }: SpecialIds): Promise<void> {
  if (await copyGenerationConfig(from, to)) return
  const ids = Object.entries({ bos_token_id: bosId, eos_token_id: eosId, pad_token_id: padId }).filter(([, id]) => id !== null)
  await writeJson(join(to, generationConfigName), { _from_model_config: true, ...Object.fromEntries(ids) })
}

/** Fields that would change what is drawn, and the values at which they do not. */
const unsupported: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  num_beam_groups: [1],
  no_repeat_ngram_size: [0],
  typical_p: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  penalty_alpha: [0],
  min_new_tokens: [0],
  min_length: [0],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  begin_suppress_tokens: [],
  sequence_bias: [],
  guidance_scale: [1],
}

export async function readGenerationConfig(folder: string): Promise<GenerationConfig> {
  const file = join(folder, generationConfigName)
  const json = (await readJsonIfThere(file)) ?? {}
  if (!isJsonObject(json)) fail('generation config', `a JSON object in ${file}`, kindOf(json), 'the file that came with the model')
  const given = (name: string): unknown => json[name] ?? undefined
  const wrong = (name: string, expected: string): never => fail('generation config', `${expected} as "${name}" in ${file}`, JSON.stringify(json[name]), 'the file that came with the model')
  const number = (name: string, valid: (x: number) => boolean, expected: string): number | undefined => {
    const v = given(name)
    if (v === undefined) return undefined
    return typeof v === 'number' && valid(v) ? v : wrong(name, expected)
  }
  const sample = given('do_sample')
  if (sample !== undefined && typeof sample !== 'boolean') wrong('do_sample', 'true or false')
  const whole = (least: number) => (x: number) => Number.isInteger(x) && x >= least
  const cuts = {
    temperature: number('temperature', (x) => x >= 0 && Number.isFinite(x), 'a number of 0 or more'),
    topK: number('top_k', whole(0), 'a whole number of 0 or more'),
    topP: number('top_p', (x) => x > 0 && x <= 1, 'a number above 0 and at most 1'),
    minP: number('min_p', (x) => x >= 0 && x <= 1, 'a number from 0 to 1'),
  }
  const stop = given('stop_strings')
  const stops = typeof stop === 'string' ? [stop] : stop
  if (stops !== undefined && !(Array.isArray(stops) && stops.every((s) => typeof s === 'string'))) wrong('stop_strings', 'a text or a list of texts')
  return {
    // as in transformers the cuts count only where it says do_sample, and top-k is then 50 unless it says otherwise
    ...(sample === true ? defined({ temperature: 1, ...defined(cuts), topK: cuts.topK ?? 50 }) : sample === false ? { temperature: 0 } : {}),
    ...defined({
      repetitionPenalty: number('repetition_penalty', (x) => x > 0 && Number.isFinite(x), 'a number above 0'),
      maxNewTokens: number('max_new_tokens', whole(1), 'a whole number above 0'),
      stop: stops as string[] | undefined,
      banned: bannedIds(given('suppress_tokens'), given('bad_words_ids'), wrong),
    }),
    ignored: Object.entries(unsupported).flatMap(([name, noops]) => (given(name) === undefined || noops.includes(given(name)) || isEmpty(given(name)) ? [] : [name])),
  }
}

const isEmpty = (value: unknown): boolean => (Array.isArray(value) && value.length === 0) || (isJsonObject(value) && Object.keys(value).length === 0)

/** Without the fields that are undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

/** Single tokens of both lists; a sequence of several is refused. */
function bannedIds(suppress: unknown, words: unknown, wrong: (name: string, expected: string) => never): number[] | undefined {
  const isId = (id: unknown): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0
  const list = suppress ?? []
  if (!Array.isArray(list) || !list.every(isId)) return wrong('suppress_tokens', 'a list of token ids')
  const lists = words ?? []
  if (!Array.isArray(lists) || !lists.every((w) => Array.isArray(w) && w.length === 1 && isId(w[0]))) return wrong('bad_words_ids', 'lists of one token id each')
  const all = [...list, ...(lists as number[][]).flat()]
  return all.length > 0 ? all : undefined
}
