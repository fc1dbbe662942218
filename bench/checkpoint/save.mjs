// What saving costs: pretraining of the demo's model with a checkpoint every few steps and without any, in turns; the difference
// for each save, as a share of 30 seconds.
//   node bench/checkpoint/save.mjs [--pairs 5] [--steps 400] [--every 50]      (after `npm run build` and `npm run demo`)
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { plan } from '../../dist/demo/plan.js'
import { pretrain } from '../../dist/stages/pretrain.js'

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '5' }, steps: { type: 'string', default: '400' }, every: { type: 'string', default: '50' } } })
const [pairs, steps, every] = [values.pairs, values.steps, values.every].map(Number)
const folder = mkdtempSync(join(tmpdir(), 'threefold-bench-'))
const common = { ...plan.pretrain, maxSteps: steps, numTrainEpochs: 10, modelNameOrPath: 'runs/demo/init', dataPath: ['runs/demo/data/pretrain.jsonl'], saveSeconds: 0, seed: 1 }

async function seconds(saveSteps) {
  const outputDir = join(folder, 'run')
  const started = performance.now()
  await pretrain({ ...common, saveSteps, resume: 'never', outputDir })
  rmSync(outputDir, { recursive: true })
  return (performance.now() - started) / 1000
}

const median = (x) => x.toSorted((a, b) => a - b)[Math.floor(x.length / 2)]
const round = (x) => Number(x.toFixed(4))
await seconds(every)
const each = []
const [saving, plain] = [[], []]
for (let i = 0; i < pairs; i++) {
  const turn = i % 2 === 0 ? [every, 0] : [0, every]
  for (const s of turn) (s > 0 ? saving : plain).push(await seconds(s))
  each.push((saving.at(-1) - plain.at(-1)) / (steps / every))
}
rmSync(folder, { recursive: true })
const perSave = median(each)
console.log(JSON.stringify({ command: `node bench/checkpoint/save.mjs --pairs ${pairs} --steps ${steps} --every ${every}`, secondsWithSaves: median(saving), secondsWithout: median(plain), saves: steps / every, secondsPerSave: round(perSave), spread: [round(Math.min(...each)), round(Math.max(...each))], shareOf30Seconds: round(perSave / 30) }))
