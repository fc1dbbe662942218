// npm run fuzz -- [name...] [--count 100000] [--seed 1]
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { fuzz } from './harness.js'
import type { FuzzReport } from './harness.js'
import { targets } from './targets.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } },
})
const [count, seed] = [Number(values.count), Number(values.seed)]
const chosen = targets.filter(({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)))
const unknown = positionals.filter((part) => !targets.some(({ name }) => name.includes(part)))
if (unknown.length > 0 || !Number.isSafeInteger(count) || count < 1 || !Number.isSafeInteger(seed)) {
  console.error(`expected [name...] [--count N] [--seed N] with names among: ${targets.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

const titles = ['reader', 'files', 'accepted', 'refused', 'worst ms', 'worst extra memory', 'failures']

function row(report: FuzzReport): string[] {
  const { name, files, accepted, refused, worstMs, worstMemory, failures } = report
  return [name, ...[files, accepted, refused, Math.round(worstMs)].map(String), `${(worstMemory / 2 ** 20).toFixed(1)} MiB`, String(failures.length)]
}

const folder = await mkdtemp(path.join(tmpdir(), 'threefold-fuzz-'))
const module = new URL('targets.ts', import.meta.url).href
const rows = [titles]
let failed = 0
for (const target of chosen) {
  const report = await fuzz(target, { module, count, seed, folder })
  rows.push(row(report))
  failed += report.failures.length
  for (const { index, problem, file } of report.failures.slice(0, 20)) console.log(`${report.name}, input ${index}: ${problem}\n  ${file}`)
  if (report.failures.length > 20) console.log(`${report.name}: ${report.failures.length - 20} more in ${folder}`)
}
const widths = titles.map((_, column) => Math.max(...rows.map((cells) => cells[column]!.length)))
for (const cells of rows) console.log(cells.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join('  '))
if (failed === 0) await rmdir(folder)
process.exitCode = failed > 0 ? 1 : 0
