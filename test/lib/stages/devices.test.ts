// The CPU and the emulated CUDA device agree: log-probs and answers of the same checkpoints. Beside the float64 oracle, which
// each of them meets by itself (test/lib/model/fixtures.test.ts), this is what a user sees who changes --device.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { runDemo } from '../../../lib/demo/run.js'
import { score } from '../../../lib/stages/score.js'
import { modelFolder } from '../model/oracle.js'

/** Both sum in fp32, in other orders. */
const fp32Bound = 1e-5
/** Both store bf16 between ops: a value on the other side of a rounding border moves all that follow. */
const bf16Bound = 0.1

const rows = [[2, 9, 31, 7, 7, 40, 3], Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 40), [5, 6]]

async function scores(name: string, device: string, dtype: 'fp32' | 'bf16', folder: string): Promise<number[]> {
  const input = join(folder, 'rows.jsonl')
  const output = join(folder, `${name}-${device}-${dtype}.jsonl`)
  await writeFile(input, rows.map((ids) => JSON.stringify({ input_ids: ids }) + '\n').join(''))
  await score({ model: modelFolder(name), input, output, device, dtype })
  const lines = (await readFile(output, 'utf8')).trim().split('\n')
  return lines.flatMap((line) => (JSON.parse(line) as { logprobs: number[] }).logprobs)
}

for (const name of ['opt-tiny', 'opt-post', 'llama-tiny'])
  for (const [dtype, bound] of [['fp32', fp32Bound], ['bf16', bf16Bound]] as const)
    test(`${name} ${dtype}: score --device emulated agrees with the CPU`, async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'threefold-score-'))
      t.teardown(() => rm(folder, { recursive: true }))
      const [cpu, emulated] = [await scores(name, 'cpu', dtype, folder), await scores(name, 'emulated', dtype, folder)]
      t.is(cpu.length, rows.reduce((n, r) => n + r.length - 1, 0))
      const worst = Math.max(...cpu.map((x, i) => Math.abs(x - emulated[i]!)))
      t.true(worst <= bound, `worst ${worst}`)
      t.true(cpu.some((x, i) => x !== emulated[i]), 'two devices, not one')
    })

test('demo --device emulated --quick trains a few steps of each stage', async (t) => {
  const outputDir = await mkdtemp(join(tmpdir(), 'threefold-demo-'))
  t.teardown(() => rm(outputDir, { recursive: true }))
  const result = await runDemo({ device: 'emulated', quick: true, outputDir, seed: 1 })
  t.deepEqual(Object.keys(result.gold), ['base', 'sft', 'ppo'])
  const ppo = (await readFile(join(outputDir, 'ppo', 'metrics.jsonl'), 'utf8')).trim().split('\n').map((l) => JSON.parse(l) as Record<string, number>)
  const steps = ppo.filter((l) => 'rollout/logprob_gap_max' in l)
  t.true(steps.length >= 1)
  for (const line of steps) t.is(line['rollout/logprob_gap_max'], 0, 'contract 1 on the emulated device')
})
