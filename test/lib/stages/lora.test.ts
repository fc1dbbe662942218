// Runs with LoRA: what they save, adapters in the place of models, and what is refused.
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { pathExists } from '../../../lib/base/files.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { convert } from '../../../lib/stages/convert.js'
import { planSft } from '../../../lib/stages/dryRun.js'
import { Model } from '../../../lib/stages/model.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { failsWith } from '../data/support.js'
import { column, makeSetting, readLines, steps } from './support.js'

const ids = Int32Array.from([1, 5, 9, 4, 7])
const brief = { maxSeqLen: 48, perDeviceTrainBatchSize: 8, loraLearningRate: 0.02, onlyOptimizeLora: true }

async function scoreOf(folder: string): Promise<unknown> {
  using model = await Model.load(folder, { threads: 1 })
  return (await model.score([ids]))[0]
}

test('sft: the adapter and its base give the numbers of the merged model, and train on', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const one = join(folder, 'one')
  await sft({ ...brief, modelNameOrPath: model, dataPath: [data], loraDim: 4, outputDir: one })
  const losses = column(steps(await readLines(one, 'metrics')), 'loss')
  t.true(losses.at(-1)! < losses[0]! - 0.3, `${losses.join(' ')}`)
  const described = JSON.parse(await readFile(join(one, 'adapter', 'adapter_config.json'), 'utf8')) as Record<string, unknown>
  t.like(described, { peft_type: 'LORA', task_type: 'CAUSAL_LM', base_model_name_or_path: model, r: 4, lora_alpha: 4, bias: 'none', fan_in_fan_out: false, target_modules: ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1', 'fc2'], modules_to_save: null })
  const file = await SafetensorsFile.open(join(one, 'adapter', 'adapter_model.safetensors'))
  t.deepEqual(file.entry('base_model.model.model.decoder.layers.1.fc2.lora_A.weight').shape, [4, 64])
  t.deepEqual(file.entry('base_model.model.model.decoder.layers.1.fc2.lora_B.weight').shape, [32, 4])
  const merged = await scoreOf(join(one, 'model'))
  t.deepEqual(await scoreOf(join(one, 'adapter')), merged)
  t.notDeepEqual(await scoreOf(model), merged)

  // an output folder that is a model's is refused before anything is written
  const config0 = await readFile(join(model, 'config.json'), 'utf8')
  await failsWith(t, () => sft({ ...brief, modelNameOrPath: model, dataPath: [data], loraDim: 4, outputDir: model }), '[--output-dir] expected a new folder, or that of an earlier run')
  t.is(await readFile(join(model, 'config.json'), 'utf8'), config0)

  // convert merges an adapter, in the base's own type or another
  const converted = await convert({ model: join(one, 'adapter'), outputDir: join(folder, 'converted') })
  t.deepEqual(await scoreOf(join(folder, 'converted')), merged)
  t.is(converted.tensors, (await SafetensorsFile.open(join(one, 'model', 'model.safetensors'))).entries.size)
  await convert({ model: join(one, 'adapter'), outputDir: join(folder, 'half'), dtype: 'bf16' })
  t.is((await SafetensorsFile.open(join(folder, 'half', 'model.safetensors'))).entry('model.decoder.layers.0.fc1.weight').dtype, 'BF16')

  // the factors go on: at rate 0 they are what they were, and the base is the first one
  await sft({ ...brief, modelNameOrPath: join(one, 'adapter'), dataPath: [data], loraDim: 4, loraLearningRate: 0, maxSteps: 1, outputDir: join(folder, 'two') })
  t.deepEqual(await readFile(join(folder, 'two', 'adapter', 'adapter_model.safetensors')), await readFile(join(one, 'adapter', 'adapter_model.safetensors')))
  t.is((JSON.parse(await readFile(join(folder, 'two', 'adapter', 'adapter_config.json'), 'utf8')) as { base_model_name_or_path: string }).base_model_name_or_path, model)
  await failsWith(t, () => sft({ ...brief, modelNameOrPath: join(one, 'adapter'), dataPath: [data], loraDim: 8 }), ', received 8. Try --lora-dim 4')
  await failsWith(t, () => sft({ ...brief, modelNameOrPath: join(one, 'adapter'), dataPath: [data], loraDim: 4, loraModuleName: ['q_proj'] }), '[--lora-module-name] expected the 12 modules of the adapter')

  await failsWith(t, () => planSft({ ...brief, modelNameOrPath: join(one, 'adapter'), dataPath: [data], loraDim: 8 }), '[--lora-dim] expected 4, as in the adapter')

  // moved together with its base, it is found from the adapter's folder
  await cp(one, join(folder, 'moved'), { recursive: true })
  await cp(model, join(folder, 'moved', 'base'), { recursive: true })
  const config = join(folder, 'moved', 'adapter', 'adapter_config.json')
  await writeFile(config, JSON.stringify({ ...described, base_model_name_or_path: '../base' }))
  t.deepEqual(await scoreOf(join(folder, 'moved', 'adapter')), merged)
  await sft({ ...brief, modelNameOrPath: join(folder, 'moved', 'adapter'), dataPath: [data], loraDim: 4, maxSteps: 1, outputDir: join(folder, 'three') })
  t.is((JSON.parse(await readFile(join(folder, 'three', 'adapter', 'adapter_config.json'), 'utf8')) as { base_model_name_or_path: string }).base_model_name_or_path, join(folder, 'moved', 'base'))

  for (const [change, message] of [
    [{ use_dora: true }, 'use_dora true'],
    [{ peft_type: 'IA3' }, 'peft_type "IA3"'],
    [{ alpha_pattern: { q_proj: 3 } }, 'alpha_pattern {"q_proj":3}'],
    [{ bias: 'all' }, 'bias "all"'],
    [{ r: 5 }, 'as [5, 32]'],
    [{ base_model_name_or_path: null }, 'the name of its base model'],
  ] as const) {
    await writeFile(config, JSON.stringify({ ...described, base_model_name_or_path: '../base', ...change }))
    await failsWith(t, () => scoreOf(join(folder, 'moved', 'adapter')), message)
  }
  await writeFile(config, JSON.stringify(described))
  await truncate(join(folder, 'moved', 'adapter', 'adapter_model.safetensors'), 3000)
  await failsWith(t, () => scoreOf(join(folder, 'moved', 'adapter')), 'adapter_model.safetensors')
  await rm(join(folder, 'moved', 'adapter', 'adapter_model.safetensors'))
  await failsWith(t, () => scoreOf(join(folder, 'moved', 'adapter')), 'adapter_model.safetensors or adapter_model.bin')
})

test('reward and ppo: the value head goes with the factors, and every adapter is a model', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const rm = join(folder, 'rm')
  await reward({ ...brief, modelNameOrPath: model, dataPath: [data], loraDim: 3, outputDir: rm })
  t.deepEqual(await scoreOf(join(rm, 'adapter')), await scoreOf(join(rm, 'model')))
  const run = join(folder, 'ppo')
  const rollouts = { maxPromptSeqLen: 20, maxAnswerSeqLen: 5, perDeviceGenerationBatchSize: 12, perDeviceTrainingBatchSize: 4, numWarmupSteps: 0, maxSteps: 6, checkLogprobs: true, enableEma: true, emaDecay: 0 }
  await ppo({ ...rollouts, actorModelNameOrPath: model, criticModelNameOrPath: join(rm, 'adapter'), dataPath: [data], actorLoraDim: 2, criticLoraDim: 3, actorLoraLearningRate: 0.01, criticLoraLearningRate: 0.01, onlyOptimizeLora: true, outputDir: run })
  t.true(column(steps(await readLines(run, 'metrics')), 'rollout/logprob_gap_max').every((gap) => gap === 0))
  t.deepEqual(await scoreOf(join(run, 'actor-adapter')), await scoreOf(join(run, 'actor')))
  t.deepEqual(await scoreOf(join(run, 'critic-adapter')), await scoreOf(join(run, 'critic')))
  t.notDeepEqual(await scoreOf(join(run, 'actor')), await scoreOf(model))
  t.deepEqual(await scoreOf(join(run, 'actor-ema')), await scoreOf(join(run, 'actor')), 'an average that keeps nothing is the last weights')
  await failsWith(t, () => ppo({ ...rollouts, actorModelNameOrPath: model, criticModelNameOrPath: join(rm, 'model'), dataPath: [data], criticLoraDim: 2, criticLoraModuleName: ['attention'] }), '[--critic-lora-module-name] expected parts of the names of linear modules, received "attention"')
})

test('an adapter takes the place of an older one and of nothing else', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const run = { ...brief, modelNameOrPath: model, dataPath: [data], loraDim: 2, maxSteps: 1, resume: 'never' as const, outputDir: join(folder, 'run') }
  await sft(run)
  await sft(run)
  await writeFile(join(folder, 'run', 'adapter', 'notes.txt'), 'mine')
  await failsWith(t, () => sft(run), 'a folder with notes.txt in it')
})

test('where more than the factors was trained, there is no adapter', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  await sft({ ...brief, onlyOptimizeLora: false, modelNameOrPath: model, dataPath: [data], loraDim: 2, maxSteps: 2, outputDir: join(folder, 'run') })
  t.false(await pathExists(join(folder, 'run', 'adapter')))
  t.true(await pathExists(join(folder, 'run', 'model')))
})
