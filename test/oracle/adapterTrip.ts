// Trains LoRA factors on every fixture checkpoint and saves them, for adapter_trip.py to load in PEFT.
//   npx tsx test/oracle/adapterTrip.ts OUT
import { readdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

import { Model, sft } from '../../lib/index.js'

const [out] = process.argv.slice(2)
if (out === undefined) throw new Error('expected a folder to write to. Try npx tsx test/oracle/adapterTrip.ts /tmp/adapters')
const fixtures = resolve('test/fixtures/models')
/** Below every fixture's vocabulary, and no padding id. */
const ids = [5, 17, 3, 29, 41, 8, 33, 12]
const rows = Array.from({ length: 8 }, (_, i) => ({ input_ids: ids.map((id) => ((id + 7 * i) % 40) + 2) }))

for (const name of (await readdir(fixtures)).sort()) {
  const data = join(out, `${name}.jsonl`)
  const common = { modelNameOrPath: join(fixtures, name), maxSeqLen: 16, loraDim: 3, loraAlpha: 6, loraLearningRate: 0.02, onlyOptimizeLora: true, numWarmupSteps: 0, perDeviceTrainBatchSize: 4, threads: 1 }
  await sft({ ...common, dataPath: [await write(data, rows)], numTrainEpochs: 4, outputDir: join(out, name, 'sft') })
  using model = await Model.load(join(out, name, 'sft', 'adapter'), { threads: 1 })
  const [score] = await model.score([Int32Array.from(ids)])
  if (score === undefined || !('logprobs' in score)) throw new Error(`expected log-probs from ${name}`)
  await writeFile(join(out, name, 'scores.json'), JSON.stringify({ ids, logprobs: Array.from(score.logprobs) }))
}

async function write(file: string, list: readonly object[]): Promise<string> {
  await writeFile(file, list.map((row) => JSON.stringify(row) + '\n').join(''))
  return file
}
