// What parent and child of a fuzz run tell each other. By files, because a child may end at any moment.
import { appendFileSync, readFileSync, writeSync } from 'node:fs'
import path from 'node:path'

export interface Job {
  /** File URL of the module that exports `targets`. */
  readonly module: string
  readonly target: string
  readonly folder: string
  readonly seed: number
  /** Inputs [from, to). */
  readonly from: number
  readonly to: number
  /** Extra memory allowed for a small file; ten times its size for a large one. */
  readonly memoryFloor: number
}

/** How a child ends. Not by 0: that is how a reader ends it that calls process.exit. */
export const exitCodes = {
  done: 69,
  /** The input at hand took too much memory, if it was the input: to be run alone. */
  memory: 70,
  /** Garbage has piled up: go on behind the input at hand in a fresh process. */
  renew: 71,
} as const

export interface Progress {
  /** The input at hand; -1 before the first. */
  readonly index: number
  readonly accepted: number
  readonly refused: number
  readonly worstMs: number
  /** Bytes above the idle process. */
  readonly worstMemory: number
  readonly idle: number
}

const fields = ['index', 'accepted', 'refused', 'worstMs', 'worstMemory', 'idle'] as const

export const progressFile = (folder: string): string => path.join(folder, 'progress')
const failuresFile = (folder: string): string => path.join(folder, 'failures.jsonl')

export function writeProgress(handle: number, progress: Progress): void {
  writeSync(handle, new Uint8Array(Float64Array.from(fields, (name) => progress[name]).buffer), 0, fields.length * 8, 0)
}

export function readProgress(folder: string): Progress {
  const bytes = new Uint8Array(fields.length * 8)
  bytes.set(readFileSync(progressFile(folder)))
  const [index = -1, accepted = 0, refused = 0, worstMs = 0, worstMemory = 0, idle = 0] = new Float64Array(bytes.buffer)
  return { index, accepted, refused, worstMs, worstMemory, idle }
}

export interface Found {
  readonly index: number
  readonly problem: string
}

export function appendFailure(folder: string, found: Found): void {
  appendFileSync(failuresFile(folder), `${JSON.stringify(found)}\n`)
}

export function readFailures(folder: string): Found[] {
  const lines = readFileSync(failuresFile(folder), { encoding: 'utf8', flag: 'a+' }).split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as Found)
}
