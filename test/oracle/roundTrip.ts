// Loads every fixture checkpoint and saves it in each way there is, for round_trip.py to load in transformers.
//   npx tsx test/oracle/roundTrip.ts OUT
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { Model, convert } from '../../lib/index.js'
import { LoadedModel } from '../../lib/checkpoint/model.js'
import { createDevice } from '../../lib/tensor/device.js'
import type { DType } from '../../lib/tensor/device.js'

const [out] = process.argv.slice(2)
if (out === undefined) throw new Error('expected a folder to write to. Try npx tsx test/oracle/roundTrip.ts /tmp/roundtrip')
const fixtures = 'test/fixtures/models'
/** Below every fixture's vocabulary, and no padding id. */
const ids = Int32Array.from([5, 17, 3, 29, 41, 8, 33, 12])

async function save(from: string, to: string, dtype: DType, head: 'logprob' | 'scalar'): Promise<void> {
  using device = createDevice({ threads: 1 })
  using model = await LoadedModel.load(device, from, { dtype, head, seed: 7 })
  await model.save(to)
}

for (const name of (await readdir(fixtures)).sort()) {
  const [from, to] = [join(fixtures, name), join(out, name)]
  await mkdir(to, { recursive: true })
  await save(from, join(to, 'saved'), 'fp32', 'logprob')
  await convert({ model: from, outputDir: join(to, 'bf16'), dtype: 'bf16', maxShardSize: '10KB' })
  await convert({ model: join(to, 'saved'), outputDir: join(to, 'fp16'), dtype: 'fp16' })
  await save(from, join(to, 'reward'), 'fp32', 'scalar')
  // saved once more, its scores stay
  await save(join(to, 'reward'), join(to, 'rewardAgain'), 'fp32', 'scalar')
  const scores: number[] = []
  for (const folder of ['reward', 'rewardAgain']) {
    using model = await Model.load(join(to, folder), { threads: 1 })
    const [score] = await model.score([ids])
    if (score === undefined || !('score' in score)) throw new Error(`expected a score from ${folder} of ${name}`)
    scores.push(score.score)
  }
  await writeFile(join(to, 'scores.json'), JSON.stringify({ ids: Array.from(ids), scores }))
}
