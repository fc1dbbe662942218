// Checkpoints of a run: D/checkpoints/step-N, each a folder that is whole or not there.
//
//   state.json          what the run was told and where it stands
//   <part>.safetensors  each part's tensors: a trained model's master weights and moments, unfinished rollouts
//   checksums.json      of the files above
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import { ThreefoldError, fail } from '../base/errors.js'
import { atomicFolder, errorCode, failOnFile, readJson, removeFolder, removeLeftovers, writeJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import type { Written } from '../base/run.js'
import { verifyChecksums, writeChecksums } from './checksums.js'
import { SafetensorsFile } from './safetensors.js'
import { writeSafetensors } from './safetensorsWriter.js'
import type { Snapshot, Stored } from './snapshot.js'

const format = 1
const stateName = 'state.json'

/** Everything but tensors. */
export interface RunState {
  /** threefold's own version, for the reader of the file. */
  version: string
  stage: string
  /** Optimizer steps done. */
  step: number
  /** As they were resolved. */
  options: Record<string, unknown>
  /** What computed: "cpu avx2". Other instruction sets round differently. */
  machine: string
  /** What of the run's files belongs to these steps. */
  written: Written
}

export interface CheckpointPlace {
  step: number
  folder: string
}

const folderOf = (runFolder: string): string => join(runFolder, 'checkpoints')

/** The run's checkpoints, oldest first. */
export async function listCheckpoints(runFolder: string): Promise<CheckpointPlace[]> {
  const parent = folderOf(runFolder)
  const names = await readdir(parent).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return [] // whether the run's folder can be is asked elsewhere
    failOnFile(error, `to read the folder ${parent}`)
  })
  const steps = names.flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []).map(Number)
  return steps.sort((a, b) => a - b).map((step) => ({ step, folder: join(parent, `step-${step}`) }))
}

/** Writes D/checkpoints/step-N; `before` runs when everything is written, right before it takes its place. */
export async function writeCheckpoint(runFolder: string, state: RunState, parts: Readonly<Record<string, Snapshot>>, before: () => Promise<void> = () => Promise.resolve()): Promise<void> {
  const folder = join(folderOf(runFolder), `step-${state.step}`)
  await atomicFolder(folder, async (temporary) => {
    const numbers: Record<string, unknown> = {}
    for (const [name, part] of Object.entries(parts)) {
      numbers[name] = part.numbers
      await writeSafetensors(join(temporary, `${name}.safetensors`), part.tensors)
    }
    await writeJson(join(temporary, stateName), { format, ...state, numbers })
    await writeChecksums(temporary)
    await before()
  })
}

/** Keeps the newest `last` checkpoints, and every one whose step is a multiple of `every` (0: none). */
export async function dropOldCheckpoints(runFolder: string, { last, every }: { last: number; every: number }): Promise<void> {
  const all = await listCheckpoints(runFolder)
  for (const { step, folder } of all.slice(0, Math.max(0, all.length - last)))
    if (every === 0 || step % every !== 0) await removeFolder(folder)
}

export async function removeCheckpoints(runFolder: string): Promise<void> {
  for (const { folder } of await listCheckpoints(runFolder)) await removeFolder(folder)
}

export class RunCheckpoint {
  private constructor(
    readonly folder: string,
    readonly state: RunState,
    readonly numbers: Readonly<Record<string, unknown>>,
  ) {}

  /** Errors: a file that is missing, torn or altered, by name; a checkpoint of another version's format. */
  static async open(folder: string): Promise<RunCheckpoint> {
    const file = join(folder, stateName)
    const cure = `removing ${folder} to go on from the checkpoint before it, or --resume never to start anew`
    const refuse = (expected: string, received: string): never => fail('checkpoint', `${expected} in ${file}`, received, cure)
    await verifyChecksums(folder).catch((error: unknown) => {
      if (error instanceof ThreefoldError) fail('checkpoint', error.expected, error.received, cure)
      throw error
    })
    const json = await readJson(file)
    if (!isJsonObject(json)) return refuse('an object', kindOf(json))
    if (json['format'] !== format) return refuse(`checkpoint format ${format}`, String(json['format']))
    const { format: _, numbers, ...state } = json
    if (!isJsonObject(numbers)) return refuse('numbers', kindOf(numbers))
    return new RunCheckpoint(folder, state as unknown as RunState, numbers)
  }

  /** One part. Error: there is none of that name. */
  async part(name: string): Promise<Stored> {
    const numbers = this.numbers[name]
    if (!isJsonObject(numbers)) fail('checkpoint', `a part "${name}" in ${this.folder}`, Object.keys(this.numbers).join(', '), '--resume never to start anew')
    return { numbers, tensors: await SafetensorsFile.open(join(this.folder, `${name}.safetensors`)) }
  }
}

/** A run's newest checkpoint; null where it has none. Clears away what a killed save left. */
export async function lastCheckpoint(runFolder: string): Promise<RunCheckpoint | null> {
  const last = (await listCheckpoints(runFolder)).at(-1)
  if (!last) return null
  await removeLeftovers(folderOf(runFolder))
  return RunCheckpoint.open(last.folder)
}

