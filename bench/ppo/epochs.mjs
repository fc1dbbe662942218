// PPO with four epochs over each experience and two generation batches, settings that DeepSpeed-Chat's README says diverge: on
// the demo's task, judged by its exact checker, for several seeds.
//   node bench/ppo/epochs.mjs [--seeds 1,2,3] [--folder runs/epochs] [--out FILE]      (after `npm run build`)
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { createChecker } from '../../dist/demo/checker.js'
import { gainOver, judge } from '../../dist/demo/judge.js'
import { plan } from '../../dist/demo/plan.js'
import { runDemo } from '../../dist/demo/run.js'
import { makeWorld } from '../../dist/demo/world.js'
import { ppo } from '../../dist/stages/ppo.js'
import { createDevice } from '../../dist/tensor/device.js'

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '1,2,3' }, folder: { type: 'string', default: 'runs/epochs' }, out: { type: 'string' } } })
const settings = { ...plan.ppo, ppoEpochs: 4, generationBatches: 2, perDeviceGenerationBatchSize: 128, actorLearningRate: plan.ppo.actorLearningRate / 10, numTrainEpochs: 5, numWarmupSteps: 120, clipRange: 0.1, stopKl: 0.003 }
const machine = { device: 'cpu', dtype: 'fp32', threads: 0 }
const lines = (folder) => readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line))

const runs = []
for (const seed of values.seeds.split(',').map(Number)) {
  const at = (...parts) => join(values.folder, `seed-${seed}`, ...parts)
  if (!existsSync(at('reward', 'model'))) await runDemo({ seed, outputDir: at() })
  const folder = at('four-epochs')
  const started = performance.now()
  const data = { dataPath: [at('data', 'preference.jsonl')], dataSplit: plan.dataSplit, evalFraction: plan.evalFraction }
  await ppo({ ...machine, ...data, ...settings, seed, checkLogprobs: true, resume: 'never', actorModelNameOrPath: at('sft', 'model'), criticModelNameOrPath: at('reward', 'model'), outputDir: folder })
  const seconds = (performance.now() - started) / 1000
  const steps = lines(folder).filter((line) => 'val/ratio' in line && line['val/ratio'] !== null)
  const world = makeWorld(seed, plan.sizes)
  const device = createDevice(machine)
  const check = createChecker(world.facts)
  const [sft, actor] = [await judge(device, at('sft', 'model'), world.testPrompts, check, { seed, dtype: 'fp32', maxAnswer: plan.maxAnswer }), await judge(device, join(folder, 'actor'), world.testPrompts, check, { seed, dtype: 'fp32', maxAnswer: plan.maxAnswer })]
  device.dispose()
  const gain = gainOver('sft', actor, sft)
  const round = (x) => Number(x.toFixed(4))
  const run = {
    seed,
    sft: round(sft.gold.share),
    ppo: round(actor.gold.share),
    gain: round(gain.mean),
    standardError: round(gain.standardError),
    steps: steps.length,
    ratioMean: [Math.min, Math.max].map((of) => round(of(...steps.map((s) => s['val/ratio'])))),
    ratioMax: round(Math.max(...steps.map((s) => s['val/ratio_max']))),
    approxKlMax: round(Math.max(...steps.map((s) => s['policy/approxkl_avg']))),
    gap: Math.max(...steps.map((s) => s['rollout/logprob_gap_max'])),
    alarms: [...new Set(steps.map((s) => s.alarms).filter(Boolean))],
    seconds: Math.round(seconds),
  }
  runs.push(run)
  console.log(JSON.stringify(run))
}
const result = { command: `node bench/ppo/epochs.mjs --seeds ${values.seeds}`, settings, runs }
if (values.out) writeFileSync(values.out, JSON.stringify(result, null, 2) + '\n')
if (runs.some((r) => !(r.gain > 0) || r.ratioMax > 2)) process.exitCode = 1
