// init, score, generate, chat and the stages from the command line, on a model of a few thousand numbers.
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Model } from '../../../lib/index.js'
import { blueprint, fixture, folder, jsonl, parsed, threefold } from './support.js'
import type { RunSettings } from './support.js'

async function ok(t: ExecutionContext, args: readonly string[], settings?: RunSettings): Promise<string> {
  const ended = await threefold(args, settings)
  t.is(ended.status, 0, ended.stderr + ended.stdout)
  return ended.stdout
}

async function freshModel(t: ExecutionContext): Promise<string> {
  const model = join(await folder(t), 'model')
  await ok(t, ['init', '--config', await blueprint(t), '--output-dir', model, '--seed', '5'])
  return model
}

const pairs = Array.from({ length: 24 }, (_, i) => ({ prompt: `hello ${i}`, chosen: ' yes, please', rejected: ' no' }))

test('init names the special tokens of the tokenizer, and refuses one with more ids than the vocabulary', async (t) => {
  const from = await blueprint(t)
  const out = join(await folder(t), 'model')
  t.regex(await ok(t, ['init', '--config', join(from, 'config.json'), '--tokenizer', from, '--output-dir', out]), /^opt model, \d+ parameters, vocabulary 262: /)
  const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>
  t.is(config['eos_token_id'], 261)
  t.is(config['pad_token_id'], null)
  const small = join(await folder(t), 'config.json')
  await jsonl(small, [{ ...config, vocab_size: 100 }])
  const ended = await threefold(['init', '--config', small, '--tokenizer', from, '--output-dir', join(out, '..', 'other')])
  t.is(ended.status, 1)
  t.regex(ended.stderr, /expected a tokenizer with at most 100 ids/)
})

test('score: rows in their order, one log-prob fewer than ids, whatever the passes', async (t) => {
  const dir = await folder(t)
  const rows = [{ input_ids: [2, 5, 6, 7, 8] }, { input_ids: [3] }, { input_ids: [2, 9, 10, 11, 12, 13, 14, 15] }]
  const input = await jsonl(join(dir, 'in.jsonl'), rows)
  const score = (n: number): Promise<string> => ok(t, ['score', '--model', fixture('llama-tiny'), '--input', input, '--batch-tokens', String(n)])
  const [one, many] = await Promise.all([score(1), score(4096)])
  t.is(one, many)
  const out = parsed(one)
  t.deepEqual(out.map((r) => r['input_ids']), rows.map((r) => r.input_ids))
  t.deepEqual(out.map((r) => (r['logprobs'] as number[]).length), [4, 0, 7])
  t.true(out.flatMap((r) => r['logprobs'] as number[]).every((x) => x < 0))
})

test('score: printed numbers give every fp32 back, and text is encoded as the tokenizer does', async (t) => {
  const folderName = await freshModel(t)
  const input = await jsonl(join(await folder(t), 'in.jsonl'), [{ text: 'hello' }, { prompt: 'hello', response: ' hello' }])
  const out = parsed(await ok(t, ['score', '--model', folderName, '--input', input]))
  using model = await Model.load(folderName)
  const scores = await model.score(['hello', { prompt: 'hello', response: ' hello' }])
  for (const [i, s] of scores.entries()) {
    t.deepEqual(out[i]!['input_ids'], Array.from(s.inputIds))
    t.deepEqual(Float32Array.from(out[i]!['logprobs'] as number[]), 'logprobs' in s ? s.logprobs : null)
  }
  t.not((out[1]!['input_ids'] as number[]).at(-1), 261)
})

test('score: an id outside the vocabulary names file, line and position, and leaves no output', async (t) => {
  const dir = await folder(t)
  const input = await jsonl(join(dir, 'in.jsonl'), [{ input_ids: [2, 5] }, { input_ids: [2, 97] }])
  const ended = await threefold(['score', '--model', fixture('opt-tiny'), '--input', input, '--output', join(dir, 'out.jsonl')])
  t.is(ended.status, 1)
  t.regex(ended.stderr, /below the vocabulary size 97 at position 1 of .*in\.jsonl line 2, received 97/)
  t.deepEqual(await readdir(dir), ['in.jsonl'])
})

test('generate: rows of new tokens with their log-probs; greedy gives the likeliest', async (t) => {
  const dir = await folder(t)
  const input = await jsonl(join(dir, 'in.jsonl'), [{ input_ids: [2, 5] }, { input_ids: [2, 9, 10] }])
  const output = join(dir, 'made', 'out.jsonl')
  const args = ['generate', '--model', fixture('opt-tiny'), '--input', input, '--max-new-tokens', '6', '--greedy']
  t.regex(await ok(t, [...args, '--output', output]), /^2 answers, /)
  const text = await readFile(output, 'utf8')
  t.is(text, await ok(t, [...args, '--batch-size', '1']))
  for (const row of parsed(text)) {
    t.deepEqual(Object.keys(row), ['output_ids', 'text', 'logprobs', 'finish'])
    t.is(row['text'], null)
    t.is((row['logprobs'] as number[]).length, (row['output_ids'] as number[]).length)
  }
})

test('stream adds up to the text of generate, stop texts included', async (t) => {
  using model = await Model.load(await freshModel(t))
  let stopped = 0
  for (const stop of [[], ['e'], ['a', 'hello'], [' ', '\n']])
    for (let seed = 0; seed < 4; seed++) {
      const options = { maxNewTokens: 40, seed, stop }
      const answer = await model.generate('hello', options)
      let text = ''
      for await (const piece of model.stream('hello', options)) text += piece
      t.is(text, answer.text ?? 'no text')
      t.false(stop.some((s) => text.includes(s)))
      if (answer.finish === 'stop') stopped++
    }
  t.true(stopped > 0)
  let pieces = 0
  for await (const _ of model.stream('hello', { maxNewTokens: 60 })) if (++pieces === 2) break
  t.is(pieces, 2)
})

test('chat over a pipe: answers on stdout, /clear starts over, /quit ends', async (t) => {
  const model = await freshModel(t)
  const chat = ['chat', '--model', model, '--max-new-tokens', '4', '--temperature', '0', '--json']
  const ended = await threefold(chat, { input: 'hello\n/clear\nhello\n/what\n/quit\nnot read\n' })
  t.is(ended.status, 0, ended.stderr)
  const turns = parsed(ended.stdout)
  t.is(turns.length, 2)
  t.deepEqual(turns[0], turns[1])
  t.regex(ended.stderr, /no such command: \/what/)
})

test('train: three steps, a table, three folders; then one step again from what is there', async (t) => {
  const model = await freshModel(t)
  const dir = await folder(t)
  const data = await jsonl(join(dir, 'pairs.jsonl'), pairs)
  const shared = ['--actor-model', model, '--data-path', data, data, '--eval-fraction', '0.2', '--max_seq_len', '60', '--output-dir', join(dir, 'run')]
  const ppo = ['--ppo-max-prompt-seq-len', '20', '--ppo-max-answer-seq-len', '6', '--ppo-num-warmup-steps', '0']
  const text = await ok(t, ['train', ...shared, ...ppo, '--sft-learning-rate', '0.01', '--quiet'])
  t.regex(text, /^1 sft .*perplexity [\d.]+ -> [\d.]+$/m)
  t.regex(text, /^2 reward .*accuracy /m)
  t.regex(text, /^3 ppo .*KL /m)
  const config = JSON.parse(await readFile(join(dir, 'run', 'sft', 'config.json'), 'utf8')) as Record<string, unknown>
  t.is(config['learningRate'], 0.01)
  t.is(config['dataSplit'], '2,4,4')
  for (const made of ['sft/model', 'reward/model', 'ppo/actor', 'ppo/critic']) t.true((await readdir(join(dir, 'run', made))).includes('config.json'), made)
  const again = parsed(await ok(t, ['train', ...shared, '--step', '2', '--json']))[0]!
  t.deepEqual(Object.keys(again['seconds'] as object), ['reward'])
  const scored = parsed(await ok(t, ['score', '--model', join(dir, 'run', 'reward', 'model'), '--input', await jsonl(join(dir, 's.jsonl'), [{ input_ids: [7, 8, 9] }])]))[0]!
  t.is((scored['values'] as number[]).length, 3)
  t.is(scored['score'], (scored['values'] as number[])[2])
})

test('--dry-run: configuration, memory, steps and rows; nothing is written', async (t) => {
  const model = await freshModel(t)
  const dir = await folder(t)
  const data = await jsonl(join(dir, 'pairs.jsonl'), [...pairs, { prompt: 'hello', chosen: 'x'.repeat(100), rejected: 'no' }])
  const out = join(dir, 'run')
  const shared = ['--data-path', data, '--output-dir', out, '--dry-run']
  const sft = parsed(await ok(t, ['sft', '--model-name-or-path', model, ...shared, '--max-seq-len', '60', '--per-device-train-batch-size', '10', '--json']))[0]!
  t.is(sft['steps'], 3)
  t.deepEqual(sft['train'], { rows: 25, kept: 24, droppedPrompt: 0, droppedAnswer: 1, skipped: 0 })
  t.regex((sft['preview'] as string[])[0]!, /^\d+ tokens, \d+ count: <s>hello 0⟦ yes, please<\/s>⟧$/)
  const text = await ok(t, ['train', '--actor-model', model, ...shared, '--ppo-max-prompt-seq-len', '20', '--ppo-max-answer-seq-len', '8'])
  for (const stage of ['sft', 'reward', 'ppo']) t.regex(text, new RegExp(`^${stage}: dry run`, 'm'))
  const long = await threefold(['train', '--actor-model', model, ...shared])
  t.regex(long.stderr, /at most 64 tokens together.*received 256 \+ 256.*--ppo-max-prompt-seq-len/)
  t.deepEqual(await readdir(dir), ['pairs.jsonl'])
})

test('two processes at once on one folder of tokenised rows; a third reads them back', async (t) => {
  const model = await freshModel(t)
  const dir = await folder(t)
  const data = await jsonl(join(dir, 'pairs.jsonl'), Array.from({ length: 3000 }, (_, i) => ({ prompt: `hello ${i}`, chosen: ' yes', rejected: ' no' })))
  const args = ['sft', '--model-name-or-path', model, '--data-path', data, '--max-seq-len', '60', '--max-steps', '1', '--data-output-path', join(dir, 'tokens')]
  const ran = await Promise.all([threefold(args), threefold(args)])
  for (const { status, stderr } of ran) t.is(status, 0, stderr)
  t.is(ran[0].stdout, ran[1].stdout)
  t.is((await readdir(join(dir, 'tokens'))).length, 1)
  const third = await threefold(args)
  t.is(third.stdout, ran[0].stdout)
  t.regex(third.stderr, /^sft: 3000 of 3000 rows \(tokenised by an earlier run\)$/m)
})

test('Ctrl-C: the stage saves and the process ends with 130', async (t) => {
  const model = await freshModel(t)
  const dir = await folder(t)
  const data = await jsonl(join(dir, 'pairs.jsonl'), pairs)
  let sent = false
  const ended = await threefold(['sft', '--model-name-or-path', model, '--data-path', data, '--max-seq-len', '60', '--num-train-epochs', '100000', '--output-dir', join(dir, 'run')], {
    onStderr: (text, kill) => {
      if (sent || !/^sft 1\//m.test(text)) return
      sent = true
      kill('SIGINT')
    },
  })
  t.is(ended.status, 130, ended.stderr)
  t.regex(ended.stderr, /stopped; what was done so far is in .*model/)
  t.true((await readdir(join(dir, 'run', 'model'))).includes('model.safetensors'))
})

test('Ctrl-C in generate --output: the answers that are done are kept', async (t) => {
  const model = await freshModel(t)
  const dir = await folder(t)
  const rows = Array.from({ length: 40000 }, (_, i) => ({ prompt: `hello ${i % 10}` }))
  const output = join(dir, 'answers.jsonl')
  let sent = false
  // one row at a time, so that the first progress line tells of an answer that is done
  const ended = await threefold(['generate', '--model', model, '--input', await jsonl(join(dir, 'p.jsonl'), rows), '--output', output, '--max-new-tokens', '40', '--batch-size', '1'], {
    onStderr: (text, kill) => {
      if (sent || !/^generate \d+\/40000/m.test(text)) return
      sent = true
      setTimeout(() => kill('SIGINT'), 1000)
    },
  })
  t.is(ended.status, 130, ended.stderr)
  t.regex(ended.stderr, /stopped; what was done so far is in .*answers\.jsonl/)
  const done = parsed(await readFile(output, 'utf8'))
  t.true(done.length > 0 && done.length < rows.length, `${done.length} answers`)
  const again = parsed(await ok(t, ['generate', '--model', model, '--input', await jsonl(join(dir, 'p.jsonl'), rows.slice(0, done.length)), '--max-new-tokens', '40', '--json']))
  t.deepEqual(done, again, 'the first answers of the input')
})

test('generation_config.json decides what the caller does not; several samples; a seed for each prompt', async (t) => {
  const folder = await freshModel(t)
  const alone = async (options: Parameters<Model['generate']>[1]) => {
    using model = await Model.load(folder, { threads: 1 })
    return (await model.generate(['hello', 'hello 1'], { maxNewTokens: 6, ...options })).map((a) => Array.from(a.outputIds))
  }
  const greedy = await alone({ greedy: true })
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ do_sample: false, max_new_tokens: 3, suppress_tokens: [greedy[0]![0]!] }))
  const banned = await alone({ maxNewTokens: null })
  t.true(banned.every((ids) => ids.length <= 3), 'max_new_tokens holds')
  t.false(banned.flat().includes(greedy[0]![0]!), 'a suppressed token is never drawn')
  t.deepEqual(banned, await alone({ maxNewTokens: 3 }), 'and so does do_sample: false')
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ do_sample: true, top_k: 1 }))
  t.deepEqual(await alone({}), greedy, 'top-k 1 is greedy')
  const free = { topK: 0, temperature: 1 }
  const one = await alone({ ...free, seed: 5 })
  const three = await alone({ ...free, seed: 5, numReturnSequences: 3 })
  t.is(three.length, 6)
  t.deepEqual([three[0], three[3]], one, 'the first sample of each prompt is what it draws alone')
  t.notDeepEqual(three[1], three[0])
  t.notDeepEqual(three[2], three[1])
  const own = await alone({ ...free, rowSeeds: [7, 8] })
  t.deepEqual([(await alone({ ...free, rowSeeds: [7, 9] }))[0], (await alone({ ...free, rowSeeds: [9, 8] }))[1]], own)
  t.notDeepEqual((await alone({ ...free, rowSeeds: [9, 8] }))[0], own[0])
  t.deepEqual(await alone({ ...free, seed: 5, rowSeeds: [null, 8] }), [one[0], own[1]], 'a prompt without one keeps to its place')
  const prompts = await jsonl(join(folder, '..', `${basename(folder)}-p.jsonl`), [{ prompt: 'hello' }])
  const lines = parsed(await ok(t, ['generate', '--model', folder, '--input', prompts, '--num-return-sequences', '3', '--top-k', '0', '--seed', '5', '--max-new-tokens', '6', '--json', '--quiet']))
  t.deepEqual(lines.map((l) => l['output_ids']), three.slice(0, 3))
  const seeded = await jsonl(join(folder, '..', `${basename(folder)}-s.jsonl`), [{ q: 'x', seed: 3 }, { q: 'hello', seed: 7 }, { q: 'hello' }])
  const drawn = ['generate', '--model', folder, '--columns', 'prompt=q,seed=seed', '--top-k', '0', '--max-new-tokens', '6', '--json', '--quiet']
  const [, second, third] = parsed(await ok(t, [...drawn, '--input', seeded]))
  t.deepEqual(second!['output_ids'], own[0])
  t.notDeepEqual(third!['output_ids'], second!['output_ids'])
  const wrong = await jsonl(seeded, [{ prompt: 'hello', seed: 'seven' }])
  t.regex((await threefold(['generate', '--model', folder, '--input', wrong])).stderr, /a whole number of 0 or more as "seed" in .* line 1, received "seven"/)
  const stopped = await threefold(['generate', '--model', folder, '--prompt', 'hello', '--logit-bias', 'x=1'])
  t.is(stopped.status, 2)
  t.regex(stopped.stderr, /\[--logit-bias\] expected id=bias .* received "x=1"/)
})
