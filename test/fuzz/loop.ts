// One mutated file after the other through a target's reader, in this process.
import { writeFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { ThreefoldError } from '../../lib/base/errors.js'
import { mutate } from './mutate.js'
import { Random } from './random.js'
import type { FuzzTarget } from './target.js'

export interface Outcome {
  /** Null: resolved, or refused as it should be. */
  readonly problem: string | null
  readonly accepted: boolean
  readonly ms: number
}

/** A target with its seeds laid out in folders of their own. */
export class Inputs {
  private constructor(
    readonly target: FuzzTarget,
    private readonly seed: number,
    /** The file to mutate, of each seed. */
    private readonly files: readonly string[],
    private readonly bytes: readonly Uint8Array[],
  ) {}

  /** Writes the seeds below `folder` and reads each: what cannot be read as it is says nothing when it is broken. */
  static async lay(target: FuzzTarget, folder: string, seed: number): Promise<Inputs> {
    const seeds = await target.seeds()
    const files: string[] = []
    for (const [index, seedFiles] of seeds.entries()) {
      const place = path.join(folder, `seed-${index}`)
      await mkdir(place, { recursive: true })
      for (const [name, bytes] of seedFiles) await writeFile(path.join(place, name), bytes)
      const file = path.join(place, [...seedFiles.keys()][0]!)
      await target.read(file)
      files.push(file)
    }
    return new Inputs(target, seed, files, seeds.map((seedFiles) => [...seedFiles.values()][0]!))
  }

  /** The index says everything about an input. */
  make(index: number): { file: string; bytes: Uint8Array } {
    const random = new Random(this.seed, this.target.name, index)
    const which = random.below(this.files.length)
    const mutated = mutate(this.bytes, which, random, this.target.text ?? false)
    const repair = random.below(2) === 0 ? this.target.repair : undefined
    return { file: this.files[which]!, bytes: repair === undefined ? mutated : repair(mutated) }
  }

  /** A seed in which `insert` takes the place of `remove` bytes at a share of its length. */
  spliced(which: number, share: number, remove: number, insert: Uint8Array): { file: string; bytes: Uint8Array } {
    const seed = this.bytes[which % this.bytes.length]!
    const at = Math.floor(share * seed.length)
    return { file: this.files[which % this.files.length]!, bytes: Buffer.concat([seed.subarray(0, at), insert, seed.subarray(Math.min(seed.length, at + remove))]) }
  }

  /** Writes an input into its place and reads it. */
  async run({ file, bytes }: { file: string; bytes: Uint8Array }): Promise<Outcome> {
    writeFileSync(file, bytes)
    const started = performance.now()
    const outcome = async (): Promise<Omit<Outcome, 'ms'>> => {
      try {
        await this.target.read(file)
        return { problem: null, accepted: true }
      } catch (error) {
        return { problem: this.#problemOf(error, file), accepted: false }
      }
    }
    const found = await outcome()
    return { ...found, ms: performance.now() - started }
  }

  #problemOf(error: unknown, file: string): string | null {
    if (!(error instanceof ThreefoldError)) return `threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
    const place = this.target.place?.(file) ?? path.basename(file)
    return error.message.includes(place) ? null : `an error that does not name ${place}: ${error.message.slice(0, 300)}`
  }
}

export interface LoopReport {
  readonly accepted: number
  readonly refused: number
  readonly worstMs: number
  /** "input 17: threw ..." */
  readonly failures: readonly string[]
}

/** Runs inputs 0 to count here: no protection from crashes and hangs, but no process to start either. */
export async function fuzzHere(target: FuzzTarget, folder: string, options: { count: number; seed: number; maxMs: number }): Promise<LoopReport> {
  const inputs = await Inputs.lay(target, folder, options.seed)
  const failures: string[] = []
  let accepted = 0
  let worstMs = 0
  for (let index = 0; index < options.count; index++) {
    const { problem, accepted: wasAccepted, ms } = await inputs.run(inputs.make(index))
    if (wasAccepted) accepted++
    if (problem !== null) failures.push(`input ${index}: ${problem}`)
    if (ms > options.maxMs) failures.push(`input ${index}: took ${Math.round(ms)} ms`)
    worstMs = Math.max(worstMs, ms)
  }
  return { accepted, refused: options.count - accepted - failures.length, worstMs, failures }
}
