// `threefold resume-check`: proof on a run of your own that going on from a checkpoint changes nothing.
import { copyFile, cp, mkdir, mkdtemp, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import { Interrupted, fail } from '../base/errors.js'
import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { RunCheckpoint, listCheckpoints } from '../checkpoint/runCheckpoint.js'
import { readChecksums } from '../checkpoint/checksums.js'
import { dpo } from './dpo.js'
import { ppo } from './ppo.js'
import { pretrain } from './pretrain.js'
import { reward } from './reward.js'
import { sft } from './sft.js'
import { silent } from './shared.js'
import { resumeCheckOptions } from './useOptions.js'

const stages: Record<string, (given: never, hooks: RunHooks) => Promise<unknown>> = { pretrain, sft, reward, dpo, ppo }

export interface ResumeCheckResult {
  /** Optimizer steps of the two checkpoints. */
  from: number
  to: number
  /** Lines of metrics.jsonl and samples.jsonl between them, and files of tensors, that were compared. */
  metrics: number
  samples: number
  tensorFiles: number
  equal: true
}

/**
 * Trains on from the second last checkpoint of a run, in a folder of its own, and compares what comes out at the last one:
 * weights, optimizer, samples and metrics, bit for bit, all but clock times. Error: what differs.
 */
export async function resumeCheck(given: Given<typeof resumeCheckOptions>, hooks: RunHooks = silent): Promise<ResumeCheckResult> {
  const { run } = resolveOptions('resume-check', resumeCheckOptions, given)
  const places = await listCheckpoints(run)
  const [first, last] = places.slice(-2)
  if (!first || !last) fail('resume-check', `two checkpoints in ${run}`, `${places.length}`, 'the folder of one step of a run with --save-steps, and --keep-last of at least 2')
  const [from, to] = [await RunCheckpoint.open(first.folder), await RunCheckpoint.open(last.folder)]
  const { stage } = to.state
  const temporary = await mkdtemp(join(tmpdir(), 'threefold-resume-'))
  try {
    await mkdir(join(temporary, 'checkpoints'))
    await cp(first.folder, join(temporary, 'checkpoints', basename(first.folder)), { recursive: true })
    for (const name of ['metrics', 'samples'] as const) {
      await copyFile(join(run, `${name}.jsonl`), join(temporary, `${name}.jsonl`))
      await truncate(join(temporary, `${name}.jsonl`), from.state.written[name])
    }
    const options = { ...to.state.options, outputDir: temporary, saveSteps: 0, saveSeconds: 0, keepLast: 2, keepEvery: 0, resume: 'auto', enableTensorboard: false, deepspeedConfig: null }
    await stages[stage]!(options as never, { ...hooks, stopAfter: last.step }).catch((error: unknown) => {
      if (!(error instanceof Interrupted)) throw error
    })
    const again = await RunCheckpoint.open(join(temporary, 'checkpoints', basename(last.folder)))
    const files = await differingFiles(to.folder, again.folder)
    const linesOf = (folder: string, name: 'metrics' | 'samples'): Promise<string[]> => linesBetween(folder, name, from.state.written[name], (folder === run ? to : again).state.written[name])
    const [metrics, metricsAgain, samples, samplesAgain] = await Promise.all([linesOf(run, 'metrics'), linesOf(temporary, 'metrics'), linesOf(run, 'samples'), linesOf(temporary, 'samples')])
    const different = [
      ...files.different,
      ...(timeless(to.numbers) === timeless(again.numbers) ? [] : ['state.json']),
      ...firstDifference('metrics.jsonl', metrics, metricsAgain),
      ...firstDifference('samples.jsonl', samples, samplesAgain),
    ]
    if (different.length > 0)
      fail('resume-check', `what ${run} holds at step ${last.step}, from step ${first.step} on`, `other ${different.join('; ')}`, 'the machine, device and version of the run; if they are, report it as a bug')
    return { from: first.step, to: last.step, metrics: metrics.length, samples: samples.length, tensorFiles: files.count, equal: true }
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function differingFiles(a: string, b: string): Promise<{ count: number; different: string[] }> {
  const [one, other] = [await readChecksums(a), await readChecksums(b)]
  const names = [...new Set([...one.keys(), ...other.keys()])].filter((name) => name.endsWith('.safetensors'))
  return { count: names.length, different: names.filter((name) => one.get(name) !== other.get(name)) }
}

async function linesBetween(folder: string, name: string, begin: number, end: number): Promise<string[]> {
  const text = (await readFile(join(folder, `${name}.jsonl`))).subarray(begin, end).toString('utf8')
  return text === '' ? [] : text.trimEnd().split('\n').map((line) => timeless(JSON.parse(line)))
}

const clocks = /^(time|step_time|perf\/throughput|timing_s\/.*)$/

/** JSON without what only a clock says. */
const timeless = (value: unknown): string => JSON.stringify(value, (key, inner: unknown) => (clocks.test(key) ? undefined : inner))

function firstDifference(file: string, a: readonly string[], b: readonly string[]): string[] {
  const at = Array.from({ length: Math.max(a.length, b.length) }, (_, i) => i).find((i) => a[i] !== b[i])
  return at === undefined ? [] : [`${file} (${a[at] ?? 'no line'} against ${b[at] ?? 'no line'})`]
}
