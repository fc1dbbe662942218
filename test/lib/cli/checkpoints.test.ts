// inspect and convert from the command line.
import { copyFile, mkdir, readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Interrupted, Progress, convert } from '../../../lib/index.js'
import { openWeights } from '../../../lib/checkpoint/storedTensors.js'
import { toFloat32 } from '../../../lib/checkpoint/storedDtype.js'
import type { LegacyTensor } from '../checkpoint/legacyFile.js'
import { legacyFile } from '../checkpoint/legacyFile.js'
import { makeModel } from '../stages/support.js'
import { fixture, folder, jsonl, parsed, threefold } from './support.js'

async function ok(t: ExecutionContext, args: readonly string[]): Promise<string> {
  const ended = await threefold(args)
  t.is(ended.status, 0, ended.stderr + ended.stdout)
  return ended.stdout
}

async function floats(model: string): Promise<Map<string, number[]>> {
  const { entries, read } = await openWeights(model)
  const found = new Map<string, number[]>()
  for (const [name, { dtype }] of entries) found.set(name, Array.from(toFloat32(await read(name), dtype as 'F32')))
  return found
}

test('inspect: family, numbers, memory, tensors; damage and unknown families are said', async (t) => {
  const text = await ok(t, ['inspect', '--model', fixture('gemma3')])
  t.regex(text, /^model +gemma3_text, language model, \d+ parameters$/m)
  t.regex(text, /^numbers +\d+ layers, hidden \d+, .* key\/value heads, .* tied head$/m)
  t.regex(text, /^bf16 +[\d.]+ KiB +[\d.]+ KiB +[\d.]+ KiB$/m)
  t.regex(text, /^model\.layers\.0\.self_attn\.q_norm\.weight +F32 +\[\d+\] +\d+ B$/m)

  const dir = await folder(t)
  const model = await makeModel(dir)
  const json = parsed(await ok(t, ['inspect', '--model', model, '--json']))[0]! as Record<string, unknown>
  t.like(json, { family: 'opt', head: 'logprob', problem: null, verified: 5, tokenizer: { vocabSize: 262, bosToken: '<s>', eosToken: '</s>', chatTemplate: false } })
  t.is((json['tensors'] as { bytes: number }[]).reduce((sum, { bytes }) => sum + bytes, 0), 4 * (json['parameters'] as number))

  await writeFile(join(model, 'config.json'), JSON.stringify({ model_type: 'mamba', vocab_size: 9 }))
  const altered = await threefold(['inspect', '--model', model])
  t.regex(altered.stderr, /sha256 .*config\.json/)
  await writeFile(join(model, 'checksums.json'), '{}')
  t.regex(await ok(t, ['inspect', '--model', model]), /^not supported: \[config\] expected a model_type of .*"mamba"/m)
  await truncate(join(model, 'model.safetensors'), 1000)
  t.regex((await threefold(['inspect', '--model', model])).stderr, /model\.safetensors/)
})

test('inspect --data: rows token by token, and what is odd about them', async (t) => {
  const dir = await folder(t)
  const model = await makeModel(dir)
  const data = await jsonl(join(dir, 'rows.jsonl'), [{ prompt: '<s>hi', chosen: ' yo', rejected: ' no' }, { prompt: 'b', chosen: 'c', rejected: 'd'.repeat(200) }])
  const text = await ok(t, ['inspect', '--model', model, '--data', data, '--max-seq-len', '40'])
  t.regex(text, /rows\.jsonl line 1, row: 7 tokens, 4 count in the loss/)
  t.regex(text, /^ +0 +260 +"<s>" +"<s>"$/m)
  t.regex(text, /^ +6 +261 +\* +"<\/s>" +"<\/s>"$/m)
  t.regex(text, /^2 rows looked at, 0 of them/m)
  const reward = parsed(await ok(t, ['inspect', '--model', model, '--data', data, '--step', 'reward', '--max-seq-len', '40', '--rows', '1', '--json']))[0]! as { rows: { parts: { name: string }[] }[]; dropped: number }
  t.deepEqual([reward.rows[0]!.parts.map(({ name }) => name), reward.rows.length, reward.dropped], [['chosen', 'rejected'], 1, 1])
  t.regex(await ok(t, ['inspect', '--model', model, '--data', data, '--loss-on', 'all']), /warning: 2 of 2 rows of which every token counts/)
  t.regex(await ok(t, ['inspect', '--model', model, '--data', data, '--step', 'ppo']), /line 2, prompt: 1 tokens, 0 count/)
  t.regex((await threefold(['inspect', '--model', model, '--data', data, '--max-seq-len', '2'])).stderr, /none of 2/)
})

test('convert: types there and back, shards, .bin to safetensors, in place; Ctrl-C and a number too large leave nothing', async (t) => {
  const dir = await folder(t)
  const model = await makeModel(dir)
  const [half, back] = [join(dir, 'half'), join(dir, 'back')]
  t.regex(await ok(t, ['convert', '--model', model, '--output-dir', half, '--dtype', 'bf16', '--max-shard-size', '20KiB']), /^\d+ tensors, [\d.]+ KiB in \d+ files: /)
  const files = await readdir(half)
  for (const name of files.filter((file) => file.endsWith('.safetensors'))) t.true((await stat(join(half, name))).size < 24_000)
  t.true(files.includes('model.safetensors.index.json') && files.includes('tokenizer.json') && files.includes('generation_config.json') && files.includes('checksums.json'))
  t.is((JSON.parse(await readFile(join(half, 'config.json'), 'utf8')) as { dtype: string }).dtype, 'bfloat16')
  await ok(t, ['convert', '--model', half, '--output-dir', back, '--dtype', 'fp32'])
  t.deepEqual(await floats(back), await floats(half))
  await ok(t, ['convert', '--model', half, '--output-dir', half, '--dtype', 'fp32'])
  t.deepEqual(await readFile(join(half, 'model.safetensors')), await readFile(join(back, 'model.safetensors')), 'in place')

  const bin = join(dir, 'bin')
  await mkdir(bin)
  await copyFile(join(model, 'config.json'), join(bin, 'config.json'))
  const { entries, read } = await openWeights(model)
  const tensors: LegacyTensor[] = []
  for (const [name, { shape }] of entries) {
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1))
    tensors.push({ name, shape, strides, storage: await read(name) })
  }
  await writeFile(join(bin, 'pytorch_model.bin'), legacyFile(tensors))
  await ok(t, ['convert', '--model', bin, '--output-dir', join(dir, 'fromBin')])
  t.deepEqual(await readFile(join(dir, 'fromBin', 'model.safetensors')), await readFile(join(model, 'model.safetensors')))

  const large = join(dir, 'large')
  await mkdir(large)
  await copyFile(join(model, 'config.json'), join(large, 'config.json'))
  tensors[0]!.storage.set(new Uint8Array(Float32Array.of(1e5).buffer))
  await writeFile(join(large, 'pytorch_model.bin'), legacyFile(tensors))
  const refused = await threefold(['convert', '--model', large, '--output-dir', join(dir, 'out'), '--dtype', 'fp16'])
  t.regex(refused.stderr, /\[convert\] expected numbers that fp16 can hold \(up to 65504\) in .*pytorch_model\.bin, received 100000\. Try --dtype bf16\./)
  t.is((await threefold(['convert', '--model', model, '--output-dir', join(dir, 'out'), '--max-shard-size', 'many'])).status, 2)
  const stopped = convert({ model, outputDir: join(dir, 'out') }, { progress: new Progress(process.stderr, true), signal: AbortSignal.abort() })
  await t.throwsAsync(stopped, { instanceOf: Interrupted })
  t.regex((await threefold(['convert', '--model', model, '--output-dir', dir])).stderr, /a folder with .* in it/)
  t.deepEqual((await readdir(dir)).filter((name) => name.includes('out')), [])
})
