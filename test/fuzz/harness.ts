// Runs a target's inputs in child processes, so that a crash, a hang or a memory hog costs one input and not the run.
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { exitCodes, progressFile, readFailures, readProgress } from './job.js'
import type { Found, Job, Progress } from './job.js'
import { Inputs } from './loop.js'
import { residentBytes } from './memory.js'
import { maxBytes } from './mutate.js'
import type { FuzzTarget } from './target.js'

export interface FuzzOptions {
  /** File URL of the module that exports `targets`. */
  readonly module: string
  readonly count: number
  readonly seed: number
  /** Where failing inputs go, and the working files for the time of the run. */
  readonly folder: string
  readonly hangMs?: number
  readonly memoryFloor?: number
}

export interface Failure extends Found {
  /** The very input, with the files beside it. */
  readonly file: string
}

export interface FuzzReport {
  readonly name: string
  readonly files: number
  readonly accepted: number
  readonly refused: number
  readonly worstMs: number
  /** Bytes above the idle process, garbage of earlier inputs included. */
  readonly worstMemory: number
  readonly failures: readonly Failure[]
}

/** Inputs per process: starting one takes about a second. */
const batch = 25_000
const pollMs = 50
const startMs = 60_000

type Ending = 'done' | 'memory' | 'renew' | 'hang' | 'crash'

export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const { count, hangMs = 5000, memoryFloor = 64 << 20 } = options
  const work = await mkdtemp(path.join(options.folder, 'work-'))
  const total = { accepted: 0, refused: 0, worstMs: 0, worstMemory: 0 }
  const found: Found[] = []
  const run = async (from: number, to: number): Promise<{ ending: Ending; how: string; last: number }> => {
    const job: Job = { module: options.module, target: target.name, folder: work, seed: options.seed, from, to, memoryFloor }
    const { ending, how, progress } = await runChild(job, hangMs)
    total.accepted += progress.accepted
    total.refused += progress.refused
    total.worstMs = Math.max(total.worstMs, progress.worstMs)
    total.worstMemory = Math.max(total.worstMemory, progress.worstMemory)
    found.push(...readFailures(work))
    return { ending, how, last: progress.index }
  }
  for (let next = 0; next < count;) {
    const { ending, how, last } = await run(next, Math.min(count, next + batch))
    next = ending === 'done' ? Math.min(count, next + batch) : last + 1
    if (ending === 'done' || ending === 'renew') continue
    const alone = await run(last, last + 1)
    if (alone.ending !== 'done' && alone.ending !== 'renew') found.push({ index: last, problem: alone.how })
    // Too slow or too large only among others is the machine's doing; a crash is not.
    else if (ending === 'crash') found.push({ index: last, problem: `${how}; not again when it runs alone` })
  }
  const failures = await saveInputs(target, options, work, found)
  await rm(work, { recursive: true })
  return { name: target.name, files: count, ...total, failures }
}

async function runChild(job: Job, hangMs: number): Promise<{ ending: Ending; how: string; progress: Progress }> {
  await rm(path.join(job.folder, 'failures.jsonl'), { force: true })
  await writeFile(progressFile(job.folder), new Uint8Array(Float64Array.of(-1).buffer))
  const complaints = path.join(job.folder, 'stderr')
  const stderr = openSync(complaints, 'w')
  const script = fileURLToPath(new URL('child.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import=tsx', '--expose-gc', script, JSON.stringify(job)], { stdio: ['ignore', 'ignore', stderr] })
  closeSync(stderr)
  const closed = new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal ?? String(code)))
  })
  const state = { ended: false }
  const watched = watch(child.pid!, job, hangMs, state, () => child.kill('SIGKILL'))
  const status = await closed
  state.ended = true
  const stopped = await watched
  const progress = readProgress(job.folder)
  if (progress.index < 0) throw new Error(`the process for ${job.target} did not start (${status}):\n${await readFile(complaints, 'utf8')}`)
  if (stopped !== null) return { ...stopped, progress }
  if (status === String(exitCodes.done)) return { ending: 'done', how: '', progress }
  if (status === String(exitCodes.memory)) return { ending: 'memory', how: 'took too much memory', progress }
  if (status === String(exitCodes.renew)) return { ending: 'renew', how: '', progress }
  return { ending: 'crash', how: `the process ended by ${status}`, progress }
}

/** Looks at the child until it ends, and ends it where one input takes too long or too much. */
async function watch(
  pid: number,
  job: Job,
  hangMs: number,
  state: { readonly ended: boolean },
  kill: () => void,
): Promise<{ ending: Ending; how: string } | null> {
  let [index, since] = [-1, Date.now()]
  for (;;) {
    await sleep(pollMs)
    if (state.ended) return null
    const progress = readProgress(job.folder)
    if (progress.index !== index) [index, since] = [progress.index, Date.now()]
    if (Date.now() - since > (index < 0 ? startMs : hangMs)) {
      kill()
      return { ending: 'hang', how: `took more than ${hangMs} ms` }
    }
    // The child judges itself when a call returns; this is for a call that goes on taking, above any garbage.
    const extra = index < 0 ? 0 : (residentBytes(pid) ?? 0) - progress.idle
    if (extra > 2 * job.memoryFloor + 10 * maxBytes) {
      kill()
      return { ending: 'memory', how: `took ${extra} bytes of memory and went on` }
    }
  }
}

async function saveInputs(target: FuzzTarget, options: FuzzOptions, work: string, found: readonly Found[]): Promise<Failure[]> {
  if (found.length === 0) return []
  const inputs = await Inputs.lay(target, work, options.seed)
  const failures: Failure[] = []
  for (const { index, problem } of [...found].sort((a, b) => a.index - b.index)) {
    const { file, bytes } = inputs.make(index)
    const place = path.join(options.folder, `${target.name.replace(/\W+/g, '-')}-${index}`)
    await mkdir(place, { recursive: true })
    await cp(path.dirname(file), place, { recursive: true })
    const saved = path.join(place, path.basename(file))
    await writeFile(saved, bytes)
    failures.push({ index, problem, file: saved })
  }
  return failures
}
