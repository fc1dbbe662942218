// Where results are written: nothing of the user's is lost, a place that takes no files is refused at once.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { makeFolder } from '../../../lib/base/files.js'
import { Progress } from '../../../lib/base/progress.js'
import { Run } from '../../../lib/base/run.js'
import { failsWith } from '../data/support.js'
import { blueprint, fixture, folder, jsonl, parsed, threefold } from './support.js'

const hooks = { progress: new Progress({ write: () => true }, true) }
const rows = Array.from({ length: 8 }, () => ({ input_ids: [2, 5, 6, 7, 8] }))

test('makeFolder: parents too, again without harm, never over a file', async (t) => {
  const dir = await folder(t)
  await makeFolder(join(dir, 'a', 'b', 'c'))
  await makeFolder(join(dir, 'a', 'b', 'c'))
  t.deepEqual(await readdir(join(dir, 'a', 'b')), ['c'])
  await writeFile(join(dir, 'file'), '')
  await t.throwsAsync(makeFolder(join(dir, 'file')), { code: 'EEXIST' })
  await t.throwsAsync(makeFolder(join(dir, 'file', 'x')), { code: 'ENOTDIR' })
})

// /proc, /dev/full and pipes with names; elsewhere these tests do not exist.
const onLinux: (title: string, body: (t: ExecutionContext) => Promise<void>) => void = process.platform === 'linux' ? test : () => undefined

onLinux('a file system that takes no folders is an error, not an endless search', async (t) => {
  await failsWith(t, () => Run.open('sft', '/proc/threefold/run', {}, hooks), 'a folder that can be written at /proc/threefold/run')
})

onLinux('metrics that cannot be written are told at the end; a folder in their place at once', async (t) => {
  const dir = await folder(t)
  await symlink('/dev/full', join(dir, 'metrics.jsonl'))
  const run = await Run.open('sft', dir, {}, hooks)
  run.log(1, { loss: 1 })
  await failsWith(t, () => run.close(), join(dir, 'metrics.jsonl'), 'ENOSPC', 'space on the disk')
  await mkdir(join(dir, 'other', 'samples.jsonl'), { recursive: true })
  await failsWith(t, () => Run.open('sft', join(dir, 'other'), {}, hooks), join('other', 'samples.jsonl'), 'EISDIR')
})

test('init replaces a model, and no other folder', async (t) => {
  const from = await blueprint(t)
  const dir = await folder(t)
  const init = (out: string) => threefold(['init', '--config', from, '--output-dir', out])
  t.is((await init(join(dir, 'model'))).status, 0)
  t.is((await init(join(dir, 'model'))).status, 0)
  await writeFile(join(dir, 'model', 'notes.txt'), 'mine')
  const refused = await init(join(dir, 'model'))
  t.is(refused.status, 1)
  t.regex(refused.stderr, /^\[--output-dir\] expected a new folder, an empty one or an older model at .*, received a folder with notes\.txt in it\. Try another name\.\n$/)
  t.is(await readFile(join(dir, 'model', 'notes.txt'), 'utf8'), 'mine')
  await t.notThrowsAsync(access(join(dir, 'model', 'model.safetensors')))
})

onLinux('--output to a pipe writes into it; a file renamed over it would take its place', async (t) => {
  const dir = await folder(t)
  const pipe = join(dir, 'pipe')
  execFileSync('mkfifo', [pipe])
  const reader = spawn('cat', [pipe])
  let text = ''
  reader.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece))
  const input = await jsonl(join(dir, 'in.jsonl'), rows)
  const [ended] = await Promise.all([threefold(['score', '--model', fixture('opt-tiny'), '--input', input, '--output', pipe]), once(reader, 'close')])
  t.is(ended.status, 0, ended.stderr)
  t.is(parsed(text).length, rows.length)
})

test('a run goes on when nobody reads its progress any more', async (t) => {
  const dir = await folder(t)
  const data = await jsonl(join(dir, 'data.jsonl'), rows)
  const words = ['sft', '--model-name-or-path', fixture('opt-tiny'), '--data-path', data, '--max-seq-len', '16', '--per-device-train-batch-size', '1', '--output-dir', join(dir, 'out')]
  const child = spawn(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', ...words], { stdio: ['ignore', 'ignore', 'pipe'] })
  child.stderr.destroy()
  const [status] = (await once(child, 'close')) as [number | null]
  t.is(status, 0)
  await t.notThrowsAsync(access(join(dir, 'out', 'model', 'model.safetensors')))
})
