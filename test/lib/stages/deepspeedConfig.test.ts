// --deepspeed-config: what a ds_config.json sets, what it may not, what is named in the note.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Progress } from '../../../lib/base/progress.js'
import type { OptionTable } from '../../../lib/base/options.js'
import type { Context } from '../../../lib/cli/command.js'
import { commands } from '../../../lib/cli/commands.js'
import { deepspeedKeys, withDeepspeedConfig } from '../../../lib/stages/deepspeedConfig.js'
import { ppoOptions, sftOptions } from '../../../lib/stages/options.js'
import { planTrain, train } from '../../../lib/stages/train.js'
import { silent } from '../../../lib/stages/shared.js'
import { sft } from '../../../lib/stages/sft.js'
import { failsWith, temporaryFolder } from '../data/support.js'
import { makeSetting } from './support.js'

/** As transformers' documentation shows one, with numbers in some places. */
const full = {
  fp16: { enabled: 'auto', loss_scale: 0, initial_scale_power: 16 },
  bf16: { enabled: true },
  optimizer: { type: 'AdamW', params: { lr: 3e-5, betas: [0.8, 0.999], eps: 1e-7, weight_decay: 'auto' } },
  scheduler: { type: 'WarmupDecayLR', params: { warmup_min_lr: 0, warmup_max_lr: 'auto', warmup_num_steps: 50, total_num_steps: 'auto', warmup_type: 'linear' } },
  zero_optimization: { stage: 0, offload_optimizer: { device: 'none', pin_memory: true }, overlap_comm: true },
  gradient_accumulation_steps: 'auto',
  gradient_clipping: 0.5,
  train_batch_size: 'auto',
  train_micro_batch_size_per_gpu: 4,
  steps_per_print: 2000,
  tensorboard: { enabled: true, output_path: 'events', job_name: 'x' },
}

async function setBy(t: ExecutionContext, config: unknown, given: Record<string, unknown> = {}, table: OptionTable = sftOptions) {
  const file = join(await temporaryFolder(t), 'ds.json')
  await writeFile(file, typeof config === 'string' ? config : JSON.stringify(config))
  const result = await withDeepspeedConfig(table, given, file)
  return { ...result, note: result.note?.replace(file, 'ds.json') ?? null }
}

test('keys with a meaning set options, "auto" sets none, the rest is named in one note', async (t) => {
  const { given, note } = await setBy(t, full, { weightDecay: '0.1', learningRate: '3e-5' })
  t.deepEqual(given, {
    weightDecay: '0.1',
    learningRate: 3e-5,
    dtype: 'bf16',
    adamBeta1: 0.8,
    adamBeta2: 0.999,
    adamEps: 1e-7,
    lrSchedulerType: 'linear',
    numWarmupSteps: 50,
    zeroStage: 0,
    maxGradNorm: 0.5,
    perDeviceTrainBatchSize: 4,
    enableTensorboard: true,
    tensorboardPath: 'events/x',
  })
  t.is(note, 'ds.json: no meaning here have fp16.loss_scale, fp16.initial_scale_power, scheduler.params.warmup_type, zero_optimization.offload_optimizer.pin_memory, zero_optimization.overlap_comm, steps_per_print')
  t.deepEqual((await setBy(t, { bf16: { enabled: false }, gradient_clipping: 1 })).note, null)
})

test('for PPO the same keys set actor and critic', async (t) => {
  const { given } = await setBy(t, { optimizer: { type: 'Adam', params: { lr: 1e-5, weight_decay: 0.1 } }, train_micro_batch_size_per_gpu: 3, scheduler: { type: 'WarmupCosineLR', params: { warmup_num_steps: 7 } } }, {}, ppoOptions)
  t.deepEqual(given, { actorLearningRate: 1e-5, criticLearningRate: 1e-5, actorWeightDecay: 0.1, criticWeightDecay: 0.1, perDeviceTrainingBatchSize: 3, lrSchedulerType: 'cosine', numWarmupSteps: 7 })
})

for (const [config, given, expected] of [
  [{ train_batch_size: 32, train_micro_batch_size_per_gpu: 8 }, {}, [8, 4]],
  [{ train_batch_size: 32, gradient_accumulation_steps: 4 }, {}, [8, 4]],
  [{ train_batch_size: 32 }, {}, [32, 1]],
  [{ train_batch_size: 32 }, { perDeviceTrainBatchSize: '4' }, [4, 8]],
  [{ train_batch_size: 32, train_micro_batch_size_per_gpu: 'auto', gradient_accumulation_steps: 'auto' }, { gradientAccumulationSteps: 2 }, [16, 2]],
] as const)
  test(`the batch of a step: ${JSON.stringify(config)} ${JSON.stringify(given)}`, async (t) => {
    const { given: out } = await setBy(t, config, given)
    t.deepEqual([Number(out['perDeviceTrainBatchSize']), Number(out['gradientAccumulationSteps'])], [...expected])
  })

const refused: [what: string, config: unknown, given: Record<string, unknown>, ...parts: string[]][] = [
  ['a contradiction', { optimizer: { params: { lr: 1e-3 } } }, { learningRate: '1e-4' }, '[--learning-rate] expected 0.001 as optimizer.params.lr in ', 'received "1e-4". Try "auto" for optimizer.params.lr, or leaving the flag out.'],
  ['two rates', { optimizer: { params: { lr: 1e-3 } }, scheduler: { type: 'WarmupLR', params: { warmup_max_lr: 1e-4 } } }, {}, 'one value for --learning-rate in ', '0.0001 for scheduler.params.warmup_max_lr'],
  ['a batch that does not divide', { train_batch_size: 30, train_micro_batch_size_per_gpu: 8 }, {}, 'train_batch_size', '30 with 8 x ?'],
  ['a batch of several GPUs', { train_batch_size: 64, train_micro_batch_size_per_gpu: 8, gradient_accumulation_steps: 1 }, {}, '64 with 8 x 1', 'more gradient_accumulation_steps'],
  ['ZeRO', { zero_optimization: { stage: 3 } }, {}, '[--zero-stage] expected 0 in this version, received 3 from zero_optimization.stage in '],
  ['offload', { zero_optimization: { offload_param: { device: 'cpu' } } }, {}, '[--offload]', 'zero_optimization.offload_param.device'],
  ['another optimizer', { optimizer: { type: 'Lamb' } }, {}, 'Adam or AdamW', '"Lamb" for optimizer.type'],
  ['another schedule', { scheduler: { type: 'OneCycle' } }, {}, 'WarmupLR, WarmupDecayLR, WarmupCosineLR', '"OneCycle" for scheduler.type'],
  ['Adam without decoupled decay', { optimizer: { type: 'Adam', params: { adam_w_mode: false } } }, {}, 'false for optimizer.params.adam_w_mode'],
  ['a warm-up from above 0', { scheduler: { type: 'WarmupLR', params: { warmup_min_lr: 1e-6 } } }, {}, '0.000001 for scheduler.params.warmup_min_lr'],
  ['both precisions', { fp16: { enabled: true }, bf16: { enabled: true } }, {}, 'fp16 or bf16, not both'],
  ['a number that is none', { gradient_clipping: 'much' }, {}, '[--max-grad-norm] expected a number of at least 0, received "much" from gradient_clipping in '],
  ['one beta', { optimizer: { params: { betas: [0.9] } } }, {}, '[--adam-beta2]', 'optimizer.params.betas'],
  ['a list', [1], {}, 'an object in', 'an array'],
  ['a torn file', '{"optimizer": {"type": "AdamW", "par', {}, 'ds.json line 1 column 33'],
]
for (const [what, config, given, ...parts] of refused) test(`${what} is refused`, async (t) => void (await failsWith(t, () => setBy(t, config, given), ...parts)))

test('every training command reads it, for the run and for --dry-run', async (t) => {
  const file = join(await temporaryFolder(t), 'ds.json')
  await writeFile(file, '{"gradient_clipping": ')
  for (const spec of commands.filter((c) => c.training && c.name !== 'demo'))
    for (const dryRun of [true, false]) {
      const required = Object.entries(spec.options).flatMap(([key, o]) => ('default' in o ? [] : [[key, o.kind === 'texts' ? ['none'] : 'none'] as const]))
      const context = { hooks: silent, json: true, quiet: true, dryRun } as Context
      await failsWith(t, () => spec.run({ ...Object.fromEntries(required), deepspeedConfig: file }, context), `${file} line 1 column 23`)
      await failsWith(t, () => spec.run({ ...Object.fromEntries(required), deepspeedConfig: `${file}.none` }, context), `to read the JSON file ${file}.none`)
    }
})

test('a run takes its numbers from the file, says what it does not, and goes on whatever the file is called', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const file = join(folder, 'ds.json')
  await writeFile(file, JSON.stringify({ train_batch_size: 12, train_micro_batch_size_per_gpu: 6, gradient_clipping: 0.25, optimizer: { type: 'AdamW', params: { lr: 2e-3 } }, steps_per_print: 1 }))
  const shown: string[] = []
  const outputDir = join(folder, 'run')
  const options = { modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, maxSteps: 2, outputDir, saveSteps: 2 }
  await sft({ ...options, deepspeedConfig: file }, { progress: new Progress({ write: (text: string) => void shown.push(text) }) })
  t.like(JSON.parse(await readFile(join(outputDir, 'config.json'), 'utf8')) as object, { perDeviceTrainBatchSize: 6, gradientAccumulationSteps: 2, maxGradNorm: 0.25, learningRate: 2e-3 })
  t.deepEqual(shown.filter((line) => line.includes('ds.json')), [`sft: ${file}: no meaning here have steps_per_print\n`])
  await t.notThrowsAsync(() => sft({ ...options, perDeviceTrainBatchSize: 6, gradientAccumulationSteps: 2, maxGradNorm: 0.25, learningRate: 2e-3 }), 'the same run by flags')
  await writeFile(file, JSON.stringify({ train_batch_size: 12, train_micro_batch_size_per_gpu: 6, gradient_clipping: 0.5 }))
  await failsWith(t, () => sft({ ...options, deepspeedConfig: file }), '[--resume]', '--max-grad-norm 0.5 instead of 0.25')
})

test('train: each step takes what it has; a flag of a step may not contradict', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const file = join(folder, 'ds.json')
  await writeFile(file, JSON.stringify({ train_micro_batch_size_per_gpu: 5, optimizer: { params: { lr: 1e-4 } }, scheduler: { type: 'WarmupLR', params: { warmup_num_steps: 3, warmup_type: 'linear' } }, tensorboard: { enabled: true } }))
  const given = { actorModelNameOrPath: model, dataPath: [data], maxSeqLen: 48, outputDir: join(folder, 'out'), deepspeedConfig: file, ppo: { maxPromptSeqLen: 20, maxAnswerSeqLen: 5 } }
  const [one, two, three] = (await planTrain(given)).map((p) => p.options)
  t.like(one, { perDeviceTrainBatchSize: 5, learningRate: 1e-4, numWarmupSteps: 3, lrSchedulerType: 'constant_with_warmup', enableTensorboard: true })
  t.like(two, { perDeviceTrainBatchSize: 5, learningRate: 1e-4, numWarmupSteps: 3 })
  t.like(three, { perDeviceTrainingBatchSize: 5, actorLearningRate: 1e-4, criticLearningRate: 1e-4, maxAnswerSeqLen: 5 })
  await failsWith(t, () => train({ ...given, ppo: { actorLearningRate: 1e-5 } }), '[--ppo-actor-learning-rate] expected 0.0001 as optimizer.params.lr')
})

test('docs/ds-config.md names every key', async (t) => {
  const page = await readFile(new URL('../../../docs/ds-config.md', import.meta.url), 'utf8')
  t.deepEqual(deepspeedKeys.filter((key) => !page.includes(`\`${key.replace(/\.device$/, '')}\``)), [])
})
