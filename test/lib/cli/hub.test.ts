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

test("train takes e2e_rlhf.py's own command lines, sizes of OPT as its models", async (t) => {
  const dir = await folder(t)
  const filesOf = async (source: string): Promise<Record<string, Buffer>> => Object.fromEntries(await Promise.all((await readdir(source)).map(async (name) => [name, await readFile(join(source, name))] as const)))
  const [actor, critic] = [await filesOf(await makeModel(dir, 'large', { max_position_embeddings: 512 })), await filesOf(await makeModel(dir, 'small', { max_position_embeddings: 512, num_hidden_layers: 1 }))]
  const rows = [...preferenceRows, ...preferenceRows].map((row) => JSON.stringify(row) + '\n').join('')
  const hub = await HubServer.start(t, [
    { kind: 'model', id: 'facebook/opt-1.3b', revisions: { main: actor } },
    { kind: 'model', id: 'facebook/opt-350m', revisions: { main: critic } },
    { kind: 'dataset', id: 'Dahoas/rm-static', revisions: { main: { 'train.jsonl': rows } } },
  ])
  const env = { HF_HOME: join(dir, 'home'), HF_ENDPOINT: hub.endpoint }
  const planned = async (...args: string[]): Promise<{ stage: string; options: Record<string, unknown>; model: { layers: number } }[]> => {
    const { status, stdout, stderr } = await threefold(['train', ...args, '--dry-run', '--json'], { env })
    t.is(status, 0, stderr)
    return [JSON.parse(stdout)].flat() as Awaited<ReturnType<typeof planned>>
  }
  const zero = ['--actor-zero-stage', '', '--reward-zero-stage', '0']
  const whole = await planned('--actor-model', 'facebook/opt-1.3b', '--reward-model', 'facebook/opt-350m', '--deployment-type', 'single_gpu', '--step', '1', '2', '3', ...zero)
  t.deepEqual(await planned('--actor_model', '1.3b', '--reward_model=350m', '--deployment_type', 'single_node', '--output_dir', './output'), whole)
  t.deepEqual(whole.map((p) => [p.stage, p.model.layers, p.options['dataPath'], p.options['outputDir']]), [
    ['sft', 2, ['Dahoas/rm-static'], 'output/sft'],
    ['reward', 1, ['Dahoas/rm-static'], 'output/reward'],
    ['ppo', 2, ['Dahoas/rm-static'], 'output/ppo'],
  ])
  for (const [flag, value, expected] of [['--deployment-type', 'multi_node', 'single_gpu or single_node'], ['--actor-zero-stage', '2', '0'], ['--reward-zero-stage', '3', '0']]) {
    const refused = await threefold(['train', '--actor-model', '1.3b', flag!, value!], { env })
    t.is(refused.status, 2)
    t.true(refused.stderr.includes(`[${flag}] expected ${expected}`), refused.stderr)
  }
})
