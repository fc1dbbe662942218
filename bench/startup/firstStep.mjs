// Seconds from starting the command to the first optimizer step, on the demo's model: n runs, median.
//   node bench/startup/firstStep.mjs [runs]      (after `npm run build` and a demo run in runs/demo)
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const demo = join(root, 'runs', 'demo')
if (!existsSync(join(demo, 'pretrain', 'model'))) throw new Error(`[bench] expected a demo run in ${demo}, received none. Try npm run demo.`)
const runs = Number(process.argv[2] ?? 5)
const seconds = []
for (let i = 0; i < runs; i++) {
  const folder = mkdtempSync(join(tmpdir(), 'threefold-bench-'))
  const started = performance.now()
  const args = ['sft', '--model-name-or-path', join(demo, 'pretrain', 'model'), '--data-path', join(demo, 'data', 'preference.jsonl'), '--max-seq-len', '64', '--output-dir', folder, '--quiet']
  const child = spawn(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...args], { stdio: 'inherit' })
  const metrics = join(folder, 'metrics.jsonl')
  while (!(existsSync(metrics) && readFileSync(metrics, 'utf8').includes('"loss"')) && child.exitCode === null) await new Promise((r) => setTimeout(r, 5))
  seconds.push((performance.now() - started) / 1000)
  child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}
seconds.sort((a, b) => a - b)
console.log(JSON.stringify({ bench: 'first optimizer step', seconds: seconds.map((s) => Number(s.toFixed(3))), median: Number(seconds[runs >> 1].toFixed(3)) }))
