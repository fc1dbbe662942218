// What a saved model folder holds, and reward models of DeepSpeed-Chat.
import { copyFile, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { verifyChecksums } from '../../../lib/checkpoint/checksums.js'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { writeSafetensorsFolder } from '../../../lib/checkpoint/shards.js'
import { openWeights } from '../../../lib/checkpoint/storedTensors.js'
import { Model, convert } from '../../../lib/index.js'
import { createDevice } from '../../../lib/tensor/device.js'
import { failsWith, temporaryFolder } from '../data/support.js'
import { makeModel } from '../stages/support.js'

const fixture = (name: string): string => join('test', 'fixtures', 'models', name)
const ids = Int32Array.of(5, 17, 3, 29)

async function saved(t: ExecutionContext, from: string, head: 'logprob' | 'scalar'): Promise<string> {
  const to = join(await temporaryFolder(t), 'model')
  using device = createDevice({ threads: 1 })
  using model = await LoadedModel.load(device, from, { dtype: 'fp32', head, seed: 3 })
  await model.save(to)
  return to
}

async function scoreOf(folder: string): Promise<number> {
  using model = await Model.load(folder, { threads: 1 })
  const [score] = await model.score([ids])
  return score !== undefined && 'score' in score ? score.score : NaN
}

test('generation_config.json is carried over, or names the special ids; checksums hold; a reward model does not generate', async (t) => {
  const folder = await temporaryFolder(t)
  const model = await makeModel(folder)
  const first = await saved(t, model, 'logprob')
  t.deepEqual(JSON.parse(await readFile(join(first, 'generation_config.json'), 'utf8')), { _from_model_config: true, bos_token_id: 260, eos_token_id: 261 })
  t.deepEqual(await verifyChecksums(first), (await readdir(first)).filter((name) => name !== 'checksums.json').sort())
  const own = '{ "temperature": 1.0,  "do_sample": true }'
  await writeFile(join(first, 'generation_config.json'), own)
  t.is(await readFile(join(await saved(t, first, 'logprob'), 'generation_config.json'), 'utf8'), own)
  t.false((await readdir(await saved(t, first, 'scalar'))).includes('generation_config.json'))
})

test("config.json keeps what it does not have to change, down to the spelling of its numbers", async (t) => {
  const before = await readFile(join(fixture('gemma2'), 'config.json'), 'utf8')
  t.regex(before, /"final_logit_softcapping": 5\.0/)
  t.is(await readFile(join(await saved(t, fixture('gemma2'), 'logprob'), 'config.json'), 'utf8').then(sorted), sorted(before))
})

const sorted = (text: string): string => text.replaceAll(',\n', '\n').split('\n').sort().join('\n')

for (const backbone of ['rwtransformer.', 'rwtranrsformer.'])
  test(`a reward model of DeepSpeed-Chat (${backbone}) is one here, and gets stock names when it is converted`, async (t) => {
    for (const [name, prefix] of [['opt-tiny', 'model.'], ['llama-odd', 'model.'], ['bloom', 'transformer.']] as const) {
      const stock = await saved(t, fixture(name), 'scalar')
      const folder = await temporaryFolder(t)
      await copyFile(join(fixture(name), 'config.json'), join(folder, 'config.json')) // its "architectures" are a language model's
      const weights = await openWeights(stock)
      const renamed = [...weights.entries.values()].map(({ name: key, dtype, shape }) => ({
        name: key === 'score.weight' ? 'v_head.weight' : backbone + (key.startsWith(prefix) ? key.slice(prefix.length) : key),
        dtype,
        shape,
        data: () => weights.read(key),
      }))
      await writeSafetensorsFolder(folder, renamed)
      const wanted = await scoreOf(stock)
      t.is(await scoreOf(folder), wanted)
      await convert({ model: folder, outputDir: join(folder, 'stock') })
      t.is(await scoreOf(join(folder, 'stock')), wanted)
      t.deepEqual([...(await openWeights(join(folder, 'stock'))).entries.keys()].sort(), [...weights.entries.keys()].sort())
      t.is(await readFile(join(folder, 'stock', 'config.json'), 'utf8').then(sorted), await readFile(join(stock, 'config.json'), 'utf8').then(sorted))
      using device = createDevice({ threads: 1 })
      await failsWith(t, () => LoadedModel.load(device, folder, { dtype: 'fp32', head: 'logprob' }), 'a language model', 'the weights have a value head')
    }
  })
