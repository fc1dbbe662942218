// Rewards from a function in a user's file: --reward-function FILE, an ES module whose default export is
//   (rows: RewardRow[]) => number[] | Promise<number[]>
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { ThreefoldError, fail } from '../base/errors.js'
import { pathExists } from '../base/files.js'
import type { Tokenizer } from '../data/tokenizer.js'
import type { Rollout } from '../engine/experience.js'

/** One answer, as the function sees it. */
export interface RewardRow {
  /** Without special tokens; null for a model without a tokenizer. */
  prompt: string | null
  answer: string | null
  promptIds: number[]
  /** The end token included where it was drawn. */
  answerIds: number[]
  /** "stop": ended by an end token or a stop text; "length": cut by its limit. */
  finish: 'stop' | 'length'
}

/** One finite number for each row, in their order. */
export type RewardFunctionOfUser = (rows: RewardRow[]) => readonly number[] | Promise<readonly number[]>

const where = '--reward-function'
const cure = 'a module such as: export default (rows) => rows.map((row) => row.answer.length)'

export class RewardFunction {
  private constructor(
    private readonly file: string,
    private readonly call: RewardFunctionOfUser,
    /** Longest that one call may take; 0 = no limit. */
    private readonly seconds: number,
  ) {}

  /** Imports the file. Errors: it is not there, cannot be imported, or exports no function. */
  static async load(file: string, seconds: number): Promise<RewardFunction> {
    const path = resolve(file)
    if (!(await pathExists(path))) fail(where, `a JavaScript module (.mjs, .js) at ${file}`, 'no such file', 'checking the path')
    const module = (await import(pathToFileURL(path).href).catch((error: unknown) => {
      throw new ThreefoldError(where, `${file} to load as a JavaScript module`, words(error), cure, { cause: error })
    })) as Record<string, unknown>
    const call = module['default']
    if (typeof call !== 'function') fail(where, `a function as the default export of ${file}`, call === undefined ? 'no default export' : `a default export of type ${typeof call}`, cure)
    return new RewardFunction(file, call as RewardFunctionOfUser, seconds)
  }

  /** The rollouts with what the function gives for each. Errors: it throws, takes too long, or does not give one finite number for each. */
  async judge(rollouts: readonly Rollout[], tokenizer: Tokenizer | null): Promise<Rollout[]> {
    const text = (ids: Int32Array): string | null => tokenizer?.decode(ids, { skipSpecial: true }) ?? null
    const rows = rollouts.map(({ prompt, answer, finish }): RewardRow => ({ prompt: text(prompt), answer: text(answer), promptIds: Array.from(prompt), answerIds: Array.from(answer), finish }))
    const given = await this.#ask(rows)
    const expected = `${rows.length} finite numbers from ${this.file}, one for each row`
    if (!Array.isArray(given) && !ArrayBuffer.isView(given)) fail(where, expected, given === null ? 'null' : typeof given, 'returning an array')
    const numbers = Array.from(given as ArrayLike<unknown>)
    if (numbers.length !== rows.length) fail(where, expected, `${numbers.length}`, 'returning a number for every row, in their order')
    const wrong = numbers.findIndex((x) => typeof x !== 'number' || !Number.isFinite(x))
    if (wrong >= 0) fail(where, expected, `${String(numbers[wrong])} for row ${wrong} (answer ${JSON.stringify(rows[wrong]!.answer ?? rows[wrong]!.answerIds)})`, 'returning 0 where there is nothing to say')
    return rollouts.map((r, i) => ({ ...r, functionScore: numbers[i] as number }))
  }

  async #ask(rows: RewardRow[]): Promise<unknown> {
    const { file, seconds } = this
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      if (seconds > 0) timer = setTimeout(() => reject(new ThreefoldError(where, `an answer of ${file} within ${seconds} seconds`, 'none', '--reward-function-seconds with more, or 0 for no limit')), 1000 * seconds)
    })
    try {
      return await Promise.race([(async () => this.call(rows))(), late])
    } catch (error) {
      if (error instanceof ThreefoldError) throw error
      throw new ThreefoldError(where, `numbers from ${file}`, words(error), 'a function that catches what may go wrong; the run goes on from its last checkpoint', { cause: error })
    } finally {
      clearTimeout(timer)
    }
  }
}

const words = (error: unknown): string => `the error "${error instanceof Error ? error.message.split('\n')[0]! : String(error)}"`
