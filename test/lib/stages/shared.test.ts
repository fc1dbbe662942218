// Steps, epochs and pieces: every row once an epoch, in an order that depends on seed and epoch alone.
import test from 'ava'

import { describeReport } from '../../../lib/stages/rows.js'
import { pieces, stepsOf, totalSteps } from '../../../lib/stages/shared.js'

const loop = { numTrainEpochs: 3, maxSteps: 0, seed: 1 }

test('every epoch sees every row once, in an order of its own', (t) => {
  const steps = [...stepsOf(10, 4, loop)].map((s) => Array.from(s))
  t.is(steps.length, totalSteps(10, 4, loop))
  t.deepEqual(steps.map((s) => s.length), [4, 4, 2, 4, 4, 2, 4, 4, 2])
  const epochs = [0, 1, 2].map((e) => steps.slice(3 * e, 3 * e + 3).flat())
  for (const order of epochs) t.deepEqual(order.toSorted((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  t.notDeepEqual(epochs[0], epochs[1])
  t.notDeepEqual(epochs[1], epochs[2])
  const longer = [...stepsOf(10, 4, { ...loop, numTrainEpochs: 5 })].map((s) => Array.from(s))
  t.deepEqual(longer.slice(0, 9), steps, 'more epochs do not change the first ones')
  t.notDeepEqual([...stepsOf(10, 4, { ...loop, seed: 2 })].map((s) => Array.from(s)), steps)
  t.deepEqual([...stepsOf(10, 10, loop)].flatMap((s) => Array.from(s)), epochs.flat(), 'the batch size does not change the order')
})

test('--max-steps stops early and never adds steps', (t) => {
  t.is([...stepsOf(10, 4, { ...loop, maxSteps: 5 })].length, 5)
  t.is(totalSteps(10, 4, { ...loop, maxSteps: 5 }), 5)
  t.is(totalSteps(10, 4, { ...loop, maxSteps: 50 }), 9)
  t.is([...stepsOf(10, 4, { ...loop, maxSteps: 50 })].length, 9)
})

test('pieces and reports', (t) => {
  t.deepEqual(pieces([1, 2, 3, 4, 5], 2), [[1, 2], [3, 4], [5]])
  t.deepEqual(pieces([], 2), [])
  const report = { rows: 10, kept: 7, droppedPrompt: 1, droppedAnswer: 2, skipped: 0 }
  t.is(describeReport('sft', report), 'sft: 7 of 10 rows, dropped 1 with a prompt over the limit, 2 with an answer over the limit')
  t.is(describeReport('sft', { ...report, kept: 10, droppedPrompt: 0, droppedAnswer: 0 }), 'sft: 10 of 10 rows')
})
