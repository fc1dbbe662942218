// The same rows in two formats are the same run.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { train } from '../../../lib/stages/train.js'
import { makeSetting, readLines } from './support.js'

const fixtures = new URL('../../fixtures/parquet/', import.meta.url).pathname

test('train: Parquet and JSONL of the same rows give the same metrics in all three steps, bit by bit', async (t) => {
  const { folder, model } = await makeSetting(t)
  const run = async (file: string, columns: string): Promise<Record<string, unknown>[]> => {
    const outputDir = join(folder, file)
    const step = { perDeviceTrainBatchSize: 4, maxSteps: 3 }
    await train({
      actorModelNameOrPath: model,
      dataPath: [join(fixtures, file)],
      columns,
      dataSplit: '1,1,1',
      evalFraction: 0.2,
      maxSeqLen: 48,
      threads: 1,
      outputDir,
      sft: step,
      reward: step,
      ppo: { maxPromptSeqLen: 40, maxAnswerSeqLen: 4, perDeviceGenerationBatchSize: 4, perDeviceTrainingBatchSize: 4, maxSteps: 2, numWarmupSteps: 0, evalPrompts: 4 },
    })
    const lines = (await Promise.all(['sft', 'reward', 'ppo'].map((stage) => readLines(join(outputDir, stage), 'metrics')))).flat()
    const timed = /^time$|step_time|^timing|throughput/
    return lines.map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !timed.test(name))))
  }
  const columns = 'prompt=source,chosen=prompt,rejected=response'
  const parquet = await run('small-pages-v2.parquet', columns)
  t.true(parquet.length >= 3 + 3 + 2)
  t.deepEqual(await run('rows.jsonl', columns), parquet)
  // and other rows would be seen: the same columns the other way round
  t.notDeepEqual(await run('zstd-groups.parquet', 'prompt=source,chosen=response,rejected=prompt'), parquet)
  t.true((await readFile(join(folder, 'rows.jsonl', 'sft', 'config.json'), 'utf8')).includes(columns))
})
