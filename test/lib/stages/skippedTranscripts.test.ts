// Transcripts that the reader has to skip are said by every stage.
import test from 'ava'

import { pretrain } from '../../../lib/stages/pretrain.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { describeReport } from '../../../lib/stages/shared.js'
import { writeLines } from '../data/support.js'
import { makeSetting, preferenceRows, stopAt } from './support.js'

const note = 'skipped 2 rows with no prompt or no answer'

test('the note counts them apart from the rows', (t) => {
  const report = { rows: 10, kept: 8, droppedPrompt: 2, droppedAnswer: 0, skipped: 0 }
  t.is(describeReport('sft', report, 2), `sft: 8 of 10 rows, dropped 2 with a prompt over the limit, ${note}`)
  t.is(describeReport('sft', { ...report, kept: 10, droppedPrompt: 0 }, 1), 'sft: 10 of 10 rows, skipped 1 row with no prompt or no answer')
})

test('sft, reward, ppo and pretrain say it', async (t) => {
  const { folder, model } = await makeSetting(t)
  const strangers = Array.from({ length: 2 }, () => ({ chosen: 'one', rejected: 'two' }))
  const data = await writeLines(folder, 'mixed.jsonl', [...preferenceRows, ...strangers])
  const { hooks, shown } = stopAt(/^$/)
  const shared = { dataPath: [data], maxSteps: 1, threads: 1 }
  await pretrain({ ...shared, modelNameOrPath: model, maxSeqLen: 48 }, hooks)
  await sft({ ...shared, modelNameOrPath: model, maxSeqLen: 48 }, hooks)
  const rewarded = await reward({ ...shared, modelNameOrPath: model, maxSeqLen: 48, outputDir: `${folder}/reward` }, hooks)
  await ppo({ ...shared, actorModelNameOrPath: model, criticModelNameOrPath: rewarded.model!, maxPromptSeqLen: 32, maxAnswerSeqLen: 4, perDeviceGenerationBatchSize: 4, evalPrompts: 0 }, hooks)
  const said = shown.filter((line) => line.includes(note))
  t.deepEqual(said.map((line) => line.split(':')[0]), ['pretrain', 'sft', 'reward', 'ppo'])
})
