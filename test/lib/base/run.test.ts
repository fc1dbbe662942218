// A run's folder: its configuration, one JSON object a line, whole when the run ends, checked before any work.
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { Progress } from '../../../lib/base/progress.js'
import { Run } from '../../../lib/base/run.js'
import { failsWith, temporaryFolder } from '../data/support.js'

const hooks = { progress: new Progress({ write: () => true }, true) }
const jsonLines = async (file: string): Promise<Record<string, unknown>[]> => (await readFile(file, 'utf8')).trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)

test('config.json, metrics.jsonl and samples.jsonl', async (t) => {
  const folder = join(await temporaryFolder(t), 'new', 'run')
  const run = await Run.open('sft', folder, { seed: 5, list: ['a'] }, hooks)
  for (let i = 1; i <= 300; i++) run.log(i, { loss: 1 / i, note: null })
  run.sample(3, { prompt: 'p\nq', answer: 'ä' })
  t.false(run.stopped)
  t.notThrows(() => run.throwIfStopped('x'))
  await run.close()
  await run.close()
  t.like(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as object, { stage: 'sft', seed: 5, list: ['a'] })
  const lines = await jsonLines(join(folder, 'metrics.jsonl'))
  t.is(lines.length, 300)
  t.like(lines[299], { stage: 'sft', step: 300, loss: 1 / 300, note: null })
  t.true(Math.abs((lines[0]!['time'] as number) - Date.now() / 1000) < 100, 'seconds')
  t.like((await jsonLines(join(folder, 'samples.jsonl')))[0], { stage: 'sft', step: 3, prompt: 'p\nq', answer: 'ä' })
  t.deepEqual((await readdir(folder)).toSorted(), ['config.json', 'metrics.jsonl', 'samples.jsonl'], 'nothing is left over')
})

test('without a folder nothing is written and nothing fails', async (t) => {
  const run = await Run.open('sft', null, {}, hooks)
  run.log(1, { loss: 1 })
  run.sample(1, {})
  t.is(run.folder, null)
  await t.notThrowsAsync(run.close())
})

test('a folder that cannot be written is refused before any work', async (t) => {
  const file = join(await temporaryFolder(t), 'file')
  await writeFile(file, '')
  await failsWith(t, () => Run.open('sft', join(file, 'run'), {}, hooks), `a folder that can be written at ${join(file, 'run')}`)
})

test('a stopped run says what it saved', async (t) => {
  const stopper = new AbortController()
  const run = await Run.open('sft', null, {}, { ...hooks, signal: stopper.signal })
  t.notThrows(() => run.throwIfStopped(null))
  stopper.abort()
  t.true(run.stopped)
  const error = t.throws(() => run.throwIfStopped('runs/x/model'), { instanceOf: Interrupted })
  t.is(error.saved, 'runs/x/model')
  t.regex(error.message, /runs\/x\/model/)
})
