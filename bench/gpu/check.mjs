// Everything a machine with a GPU can tell of this commit, in less than nine minutes and without a network. Each part runs in
// a process of its own with a time limit; a part that fails stops no other. Ends with a table; exit status 1 where one failed.
//   ./gpu-check [--device cuda] [--out DIR] [--only ops,ladder] [--minutes 9]     in the unpacked bundle
// docs/gpu.md says what each part does and what the JSON holds.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'

import { flags, root, stop } from './library.mjs'
import { parts } from './parts.mjs'
import { Clocks, runPart } from './runPart.mjs'

const given = flags('gpu-check', { device: 'cuda', out: join(root, 'bench', 'results'), only: '', minutes: '', scale: '' })
if (!/^(cuda(:\d+)?|emulated)$/.test(given.device)) stop('gpu-check', 'cuda, cuda:N or emulated', given.device, '--device cuda')
const gpu = given.device.startsWith('cuda')
const scale = given.scale || (gpu ? 'full' : 'quick')
const minutes = Number(given.minutes || (gpu ? 9 : 60))
if (!(minutes > 0)) stop('gpu-check', 'minutes above 0', given.minutes, '--minutes 9')

const out = resolve(given.out)
const started = performance.now()
const date = new Date().toISOString()
const work = join(out, `gpu-check-${date.slice(0, 19).replaceAll(':', '')}`)
mkdirSync(work, { recursive: true })
const context = { device: given.device, gpu, scale, work, results: {}, left: () => 60 * minutes - 5 - (performance.now() - started) / 1000 }

const all = parts(context)
const only = given.only.split(',').filter(Boolean)
const unknown = only.find((name) => !all.some((part) => part.name === name))
if (unknown) stop('gpu-check', all.map((part) => part.name).join(', '), unknown, 'one of these, separated by commas')
const chosen = all.filter((part) => only.length === 0 || only.includes(part.name))

// What proves results may share the machine; what measures time may not.
const together = availableParallelism() >= 8 ? chosen.filter((part) => part.together) : []
const clocks = gpu ? new Clocks() : null
const finish = (part, result) => {
  context.results[part.name] = result
  console.log(`${part.name.padEnd(10)} ${result.status.padEnd(8)} ${result.seconds.toFixed(1).padStart(6)} s  ${result.figure}`)
}
const one = async (part) => {
  console.log(`${part.name} ...`)
  clocks?.start()
  const result = await runPart(part, context)
  finish(part, { ...result, ...(clocks && { clocks: clocks.stop() }) })
}
for (const part of chosen) {
  if (context.results[part.name]) continue
  if (!together.includes(part)) await one(part)
  else {
    console.log(`${together.map((p) => p.name).join(', ')} side by side ...`)
    await Promise.all(together.map(async (p) => finish(p, await runPart(p, context))))
  }
}

const results = chosen.map((part) => ({ part: part.name, ...context.results[part.name] }))
const failed = results.filter((r) => r.status === 'FAILED')
const seconds = (performance.now() - started) / 1000
const facts = context.results['facts']?.result ?? null
const name = (facts?.devices?.[0]?.name ?? given.device).toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
const file = join(out, `gpu-${name}-${date.slice(0, 10)}.json`)
writeFileSync(file, JSON.stringify({ date, device: given.device, scale, commit: context.commit, seconds, facts, parts: results }, null, 1) + '\n')
rmSync(join(work, 'demo'), { recursive: true, force: true }) // models and data, which nobody needs again

console.log(`\n${'part'.padEnd(10)} ${'status'.padEnd(8)} ${'seconds'.padStart(8)}  figure`)
for (const r of results) console.log(`${r.part.padEnd(10)} ${r.status.padEnd(8)} ${r.seconds.toFixed(1).padStart(8)}  ${r.figure}`)
console.log(`\n${failed.length ? `FAILED: ${failed.map((r) => r.part).join(', ')}` : 'all parts passed'} in ${(seconds / 60).toFixed(1)} min; commit ${context.commit}; ${file}; logs in ${work}`)
process.exitCode = failed.length ? 1 : 0
