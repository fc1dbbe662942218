// Models and data sets by hub id, from the command line, on a hub on loopback.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { HubServer } from '../hub/server.js'
import { makeModel, preferenceRows } from '../stages/support.js'
import { folder, threefold } from './support.js'

test('a dry run takes no weights; training, answering and making a model like it take the id', async (t) => {
  const dir = await folder(t)
  const source = await makeModel(dir)
  const files = Object.fromEntries(await Promise.all((await readdir(source)).map(async (name) => [name, await readFile(join(source, name))] as const)))
  const rows = preferenceRows.map((row) => JSON.stringify(row) + '\n').join('')
  const hub = await HubServer.start(t, [
    { kind: 'model', id: 'owner/model', revisions: { main: files } },
    { kind: 'dataset', id: 'owner/rows', revisions: { main: { 'train.jsonl': rows } } },
  ])
  const env = { HF_HOME: join(dir, 'home'), HF_ENDPOINT: hub.endpoint }
  const run = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await threefold(args, { env })
    t.is(status, 0, stderr)
    return stdout
  }
  const asked = (): string[] => hub.asked.map(({ path }) => path).filter((path) => path.includes('/resolve/') && path.endsWith('.safetensors'))
  const training = ['--data-path', 'owner/rows', '--max-seq-len', '40', '--max-steps', '1']
  await run('sft', '--model-name-or-path', 'owner/model', ...training, '--dry-run')
  await run('inspect', '--model', 'owner/model', '--data', 'owner/rows')
  t.deepEqual(asked(), [])
  await run('sft', '--model-name-or-path', 'owner/model', ...training, '--output-dir', join(dir, 'sft'))
  t.is(new Set(asked()).size, 1)
  const before = asked().length
  const answer = await run('generate', '--model', 'owner/model', '--prompt', 'say x:', '--greedy', '--max-new-tokens', '4')
  t.is(answer, await run('generate', '--model', source, '--prompt', 'say x:', '--greedy', '--max-new-tokens', '4'))
  await run('init', '--config', 'owner/model', '--output-dir', join(dir, 'fresh'))
  await run('ppo', '--actor-model-name-or-path', 'owner/model', '--critic-model-name-or-path', join(dir, 'sft', 'model'), '--data-path', 'owner/rows', '--dry-run', '--max-prompt-seq-len', '20', '--max-answer-seq-len', '4')
  t.is(asked().length, before, 'downloaded once')
  t.true((await readdir(join(dir, 'fresh'))).includes('tokenizer.json'))
})
