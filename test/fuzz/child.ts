// A process that runs a stretch of inputs: `node --import=tsx --expose-gc test/fuzz/child.ts JOB`. harness.ts starts it.
import { openSync } from 'node:fs'
import { appendFailure, exitCodes, progressFile, writeProgress } from './job.js'
import type { Job } from './job.js'
import { Inputs } from './loop.js'
import { peakBytes, resetPeak } from './memory.js'
import type { FuzzTarget } from './target.js'

const job = JSON.parse(process.argv[2]!) as Job
const { targets } = (await import(job.module)) as { targets: readonly FuzzTarget[] }
const target = targets.find(({ name }) => name === job.target)
if (target === undefined) throw new Error(`no target ${job.target} in ${job.module}`)
const collect = globalThis.gc
if (collect === undefined) throw new Error('run with --expose-gc')

const inputs = await Inputs.lay(target, job.folder, job.seed)
const handle = openSync(progressFile(job.folder), 'r+')
collect()
resetPeak()
const idle = process.memoryUsage.rss()
const progress = { index: -1, accepted: 0, refused: 0, worstMs: 0, worstMemory: 0, idle }

for (let index = job.from; index < job.to; index++) {
  progress.index = index
  writeProgress(handle, progress)
  const input = inputs.make(index)
  resetPeak()
  const { problem, accepted, ms } = await inputs.run(input)
  const extra = peakBytes() - idle
  const allowed = Math.max(job.memoryFloor, 10 * input.bytes.length)
  const isAlone = job.to - job.from === 1
  // Garbage of the inputs before may be part of it: only a process of its own can say.
  if (extra > allowed && !isAlone) process.exit(exitCodes.memory)
  progress.worstMemory = Math.max(progress.worstMemory, extra)
  progress.worstMs = Math.max(progress.worstMs, ms)
  if (problem !== null) appendFailure(job.folder, { index, problem })
  else if (extra > allowed) appendFailure(job.folder, { index, problem: `took ${extra} bytes of memory, ${allowed} are allowed` })
  else if (accepted) progress.accepted++
  else progress.refused++
  writeProgress(handle, progress)
  if (process.memoryUsage.rss() - idle > job.memoryFloor / 2) {
    collect()
    if (process.memoryUsage.rss() - idle > job.memoryFloor / 2) process.exit(exitCodes.renew)
  }
}
process.exit(exitCodes.done)
