// Exit statuses and the shape of errors, through real processes.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { fixture, folder, jsonl, parsed, threefold } from './support.js'

const base = ['sft', '--model-name-or-path', 'no-such-model', '--data-path', 'no-such-data.jsonl']

// What is wrong, the exit status, and what the message must say.
const wrong: [args: string[], status: number, says: string][] = [
  [['scor'], 2, '[threefold] expected a command it knows, received scor. Try score.'],
  [['sft', '--learning-rat', '1'], 2, '[sft] expected a flag it knows, received --learning-rat. Try --learning-rate.'],
  [['sft', '--learning-rate'], 2, '[sft] expected a value after --learning-rate, received none. Try threefold sft --help.'],
  [['sft', 'more'], 2, '[sft] expected flags only'],
  [['sft'], 2, '[sft] expected --model-name-or-path (model folder in the Hugging Face layout), received none. Try threefold sft --help.'],
  [[...base, '--learning-rate', 'fast'], 2, '[--learning-rate] expected a number of at least 0, received "fast". Try threefold sft --help.'],
  [[...base, '--loss-on', 'prompt'], 2, '[--loss-on] expected one of response, all, received "prompt".'],
  [[...base, '--quiet', 'maybe'], 2, '[--quiet] expected true or false, received "maybe".'],
  [[...base, '--dropout', '1.5'], 2, '[--dropout] expected a number of at least 0 and at most 0.99, received "1.5"'],
  [[...base, '--zero_stage', '8'], 2, '[--zero-stage] expected 0 in this version, received "8". Try leaving it out; it comes with ZeRO sharding.'],
  [['train', '--actor-model', 'a', '--data-path', 'b', '--output-dir', 'c', '--step', '4'], 2, '[--step] expected 1, 2 or 3, received 4.'],
  [['train', '--actor-model', 'a', '--data-path', 'b', '--output-dir', 'c', '--ppo-gamma', '2'], 2, '[--ppo-gamma] expected a number of at least 0 and at most 1, received "2".'],
  [['dpo', '--beta', '0.1'], 2, '[dpo] expected --model-name-or-path (model folder in the Hugging Face layout), received none.'],
  [['launch', '--beta', '0.1'], 2, '[launch] expected a command of this version'],
  [['score', '--model', 'no-such-model', '--input', 'no-such-data.jsonl'], 1, '[files] expected a data file or folder at no-such-data.jsonl'],
  [['generate', '--model', 'no-such-model', '--prompt', 'x'], 1, '[hub] expected a model at no-such-model, or a hub id such as owner/name, received no such path.'],
  [['generate', '--model', 'no-such-model', '--input', 'rows.jsonl', '--output', './rows.jsonl'], 2, '[--output] expected another file than --input, received ./rows.jsonl.'],
  [['score', '--model', 'no-such-model', '--input', 'rows.jsonl', '--output', 'rows.jsonl'], 2, '[--output] expected another file than --input, received'],
  [['generate', '--model', 'no-such-model'], 2, '[generate] expected either --prompt or --input, received neither.'],
  [['init', '--config', 'no-such.json', '--output-dir', 'x'], 1, '[--config] expected a config.json at no-such.json, received no such file.'],
]
for (const [args, status, says] of wrong)
  test(`threefold ${args.join(' ')}`, async (t) => {
    const ended = await threefold(args)
    t.is(ended.status, status, ended.stderr)
    t.true(ended.stderr.startsWith(says), ended.stderr)
    t.is(ended.stderr.trim().split('\n').length, 1)
    t.is(ended.stdout, '')
  })

test('--json prints an error as one object on stdout', async (t) => {
  const usage = await threefold(['sft', '--json', '--no-such-flag'])
  t.is(usage.status, 2)
  t.deepEqual(parsed(usage.stdout), [{ error: { where: 'sft', expected: 'a flag it knows', received: '--no-such-flag', try: 'threefold sft --help' } }])
  const failed = await threefold(['generate', '--model', 'no-such-model', '--prompt', 'x', '--json'])
  t.is(failed.status, 1)
  t.is((parsed(failed.stdout)[0]!['error'] as { received: string }).received, 'no such path')
  t.is(failed.stderr, '')
})

test('THREEFOLD_DEBUG=1 adds the stack', async (t) => {
  const ended = await threefold(['generate', '--model', 'no-such-model', '--prompt', 'x'], { env: { THREEFOLD_DEBUG: '1' } })
  t.regex(ended.stderr, /\n {4}at /)
})

test('flags of later versions are accepted where they change nothing', async (t) => {
  const later = ['--local_rank', '-1', '--zero_stage', '0', '--dropout', '0.0', '--offload', 'false', '--compute_fp32_loss']
  const ended = await threefold([...base, ...later])
  t.is(ended.status, 1, ended.stderr)
  t.true(ended.stderr.startsWith('[files] expected a data file or folder at no-such-data.jsonl'), ended.stderr)
})

test('help needs no addon, and what needs the addon says how to get it', async (t) => {
  const nodeFlags = ['--no-addons']
  const [all, one, same, model] = await Promise.all([
    threefold(['--help'], { nodeFlags }),
    threefold(['ppo', '--help'], { nodeFlags }),
    threefold(['help', 'ppo'], { nodeFlags }),
    threefold(['score', '--model', fixture('opt-tiny'), '--input', await jsonl(join(await folder(t), 'a.jsonl'), [{ input_ids: [2, 5] }])], { nodeFlags }),
  ])
  t.is(all.status, 0)
  t.regex(all.stdout, /^Usage: threefold/)
  t.is(one.status, 0)
  t.regex(one.stdout, /--kl-coef <number> [^-]*default:\s+0\.1/)
  t.is(same.stdout, one.stdout)
  t.is(model.status, 1)
  t.regex(model.stderr, /^\[native addon\] .*Try starting Node without --no-addons/)
})

test('--version', async (t) => {
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string }
  t.deepEqual(await threefold(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' })
})

test('doctor --json', async (t) => {
  const ended = await threefold(['doctor', '--json', '--threads', '1'])
  t.is(ended.status, 0, ended.stderr)
  const report = parsed(ended.stdout)[0] as { threads: number; matmul: { gflops: number }; instructionSets: { available: string[]; chosen: string } }
  t.is(report.threads, 1)
  t.true(report.matmul.gflops > 0)
  t.true(report.instructionSets.available.includes(report.instructionSets.chosen))
})
