// --enable-tensorboard: the numbers of metrics.jsonl as events, each once, also when a run goes on.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { sft } from '../../../lib/stages/sft.js'
import { resumeCheck } from '../../../lib/stages/resumeCheck.js'
import { silent } from '../../../lib/stages/shared.js'
import { shownScalars } from '../base/eventFile.js'
import { failsWith } from '../data/support.js'
import { makeSetting, readLines } from './support.js'

test('a run that is stopped and goes on shows what metrics.jsonl holds', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const outputDir = join(folder, 'run')
  const options = { modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, evalFraction: 0.2, evalInterval: 2, numTrainEpochs: 2, perDeviceTrainBatchSize: 6, outputDir, saveSteps: 2, keepLast: 9 }
  const watched = { ...options, enableTensorboard: true }
  await t.throwsAsync(() => sft(watched, { ...silent, stopAfter: 5 }), { instanceOf: Interrupted })
  // as after a kill: the checkpoint of step 4 is the last, the events of step 5 are there
  await rm(join(outputDir, 'checkpoints', 'step-5'), { recursive: true })
  // without and with events: what is watched is no part of what is computed
  await t.throwsAsync(() => sft(options, { ...silent, stopAfter: 5 }), { instanceOf: Interrupted })
  await sft(watched)
  const lines = await readLines(outputDir, 'metrics')
  const numbers = lines.map(({ stage: _, step, time, ...rest }) => ({ time, step, scalars: Object.fromEntries(Object.entries(rest).map(([k, v]) => [k, Math.fround(v as number)])) }))
  t.deepEqual(await shownScalars(join(outputDir, 'tensorboard')), numbers.filter((e) => e.step !== 5), 'step 5 ran without --enable-tensorboard')
  t.true(lines.length >= 13)
  // finished and typed again: the evaluation at the end is written anew, in both
  await sft(watched)
  const again = await shownScalars(join(outputDir, 'tensorboard'))
  t.is(again.filter((e) => e.step === numbers.at(-1)!.step && 'eval/loss' in e.scalars!).length, 1)
  const before = await readdir(join(outputDir, 'tensorboard'))
  await resumeCheck({ run: outputDir })
  t.deepEqual(await readdir(join(outputDir, 'tensorboard')), before, 'a check leaves no events')
})

test('--tensorboard-path alone keeps nothing but events; without any folder it is refused before work', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const options = { modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, maxSteps: 2, enableTensorboard: true }
  await failsWith(t, () => sft({ ...options, modelNameOrPath: join(folder, 'none') }), '[--enable-tensorboard] expected --tensorboard-path or --output-dir, received neither')
  await sft({ ...options, tensorboardPath: join(folder, 'events') })
  t.deepEqual((await shownScalars(join(folder, 'events'))).map((e) => e.step), [1, 2])
})
