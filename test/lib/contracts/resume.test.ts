// Contract 3: a run that is cut anywhere and goes on from its checkpoint ends bit-equal to one that never was.
import { appendFile, cp, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { Progress } from '../../../lib/base/progress.js'
import { listCheckpoints } from '../../../lib/checkpoint/runCheckpoint.js'
import { dpo } from '../../../lib/stages/dpo.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { pretrain } from '../../../lib/stages/pretrain.js'
import { resumeCheck } from '../../../lib/stages/resumeCheck.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { silent } from '../../../lib/stages/shared.js'
import { train } from '../../../lib/stages/train.js'
import { failsWith, temporaryFolder, writeLines } from '../data/support.js'
import { onCpu, slow, testDevice } from '../device.js'
import { makeModel, makeSetting, preferenceRows, readLines } from '../stages/support.js'
import type { Line } from '../stages/support.js'

type Stage = (given: never, hooks?: typeof silent & { stopAfter?: number }) => Promise<unknown>

interface Case {
  stage: Stage
  options: Record<string, unknown>
  models: string[]
}

async function cases(t: ExecutionContext): Promise<Record<string, Case>> {
  const { folder, model, data } = await makeSetting(t)
  const critic = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, maxSteps: 3, outputDir: join(folder, 'critic') })).model!
  const one = { modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, evalFraction: 0.2, learningRate: 2e-3, perDeviceTrainBatchSize: 5, numTrainEpochs: 2, evalInterval: 3, saveSteps: 1, keepLast: 100, device: testDevice, dtype: 'fp32' }
  const texts = await writeLines(folder, 'texts.jsonl', Array.from({ length: 30 }, (_, i) => ({ text: `say ${'abc'.repeat(i % 7)} to ${i}.` })))
  const ranked = await writeLines(folder, 'ranked.jsonl', preferenceRows.map(({ prompt, chosen, rejected }, i) => ({ prompt, responses: [rejected, 'zzz', chosen], ranking: [2, 2 + (i % 2), 1] })))
  const rollouts = { maxPromptSeqLen: 20, maxAnswerSeqLen: 5, perDeviceGenerationBatchSize: 12, perDeviceTrainingBatchSize: 4, ppoEpochs: 2, numWarmupSteps: 2, criticWarmupSteps: 2, actorLearningRate: 1e-3, criticLearningRate: 1e-3, rewardClip: 0, device: testDevice, dtype: 'fp32', ...(slow && { maxSteps: 8 }) }
  const judge = join(folder, 'judge.mjs')
  await writeFile(judge, 'export default async (rows) => rows.map((r) => (r.answer.includes(r.prompt[4]) ? 1 : 0) - r.answerIds.length / 100)')
  const groups = { ...rollouts, criticWarmupSteps: 0, maxSteps: slow ? 8 : 11, perDeviceGenerationBatchSize: 4, groupSize: 3, actorModelNameOrPath: model, dataPath: [data], evalFraction: 0.2, checkLogprobs: true, saveSteps: 1, keepLast: 100 }
  return {
    pretrain: { stage: pretrain as Stage, options: { ...one, dataPath: [texts], numTrainEpochs: 3 }, models: ['model'] },
    sft: { stage: sft as Stage, options: one, models: ['model'] },
    'sft in bf16, accumulated': { stage: sft as Stage, options: { ...one, dtype: 'bf16', dropout: 0.1, gradientAccumulationSteps: 2, perDeviceTrainBatchSize: 3 }, models: ['model'] },
    'sft with LoRA': { stage: sft as Stage, options: { ...one, loraDim: 3, loraDropout: 0.3, loraLearningRate: 0.01, onlyOptimizeLora: true }, models: ['model', 'adapter'] },
    'sft in fp16': { stage: sft as Stage, options: { ...one, dtype: 'fp16', maxGradNorm: 0 }, models: ['model'] },
    reward: { stage: reward as Stage, options: { ...one, centerRewardsCoefficient: 0.01 }, models: ['model'] },
    'reward of rankings, padded': { stage: reward as Stage, options: { ...one, dataPath: [ranked], compat: 'deepspeed-chat', numPaddingAtBeginning: 0 }, models: ['model'] },
    'ppo, padded, of an ensemble': { stage: ppo as Stage, options: { ...rollouts, actorModelNameOrPath: model, criticModelNameOrPath: critic, rewardEnsemble: [critic], dataPath: [data], compat: 'deepspeed-chat', padTokenId: 0, saveSteps: 1, keepLast: 100 }, models: ['actor', 'critic'] },
    dpo: { stage: dpo as Stage, options: one, models: ['model'] },
    'dpo, reference asked before': { stage: dpo as Stage, options: { ...one, precomputeReference: true, lossType: 'ipo', lengthNormalize: true }, models: ['model'] },
    ppo: { stage: ppo as Stage, options: { ...rollouts, actorModelNameOrPath: model, criticModelNameOrPath: critic, dataPath: [data], evalFraction: 0.2, whitenAdvantages: true, checkLogprobs: true, enableEma: true, unsupervisedDatasetName: texts, unsupCoef: 0.5, criticDropout: 0.1, actorLoraDim: 2, criticLoraDim: 4, actorLoraModuleName: ['layers.1.'], klTarget: 0.05, klHorizon: 50, missingEosPenalty: 0.5, evalInterval: 3, saveSteps: 1, keepLast: 100 }, models: ['actor', 'critic', 'actor-ema'] },
    'grpo with a function': { stage: ppo as Stage, options: { ...groups, normalizeRewards: true, maskTruncated: true, algorithm: 'grpo', rewardFunction: judge, klTarget: 0.05, klHorizon: 50, enableEma: true }, models: ['actor', 'actor-ema'] },
    'rloo with function and model': { stage: ppo as Stage, options: { ...groups, algorithm: 'rloo', rewardFunction: judge, rewardFrom: 'both', criticModelNameOrPath: critic }, models: ['actor'] },
  }
}

const clocks = /^(time|step_time|perf\/throughput|timing_s\/.*)$/
const timeless = (lines: Line[]): Line[] => lines.map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !clocks.test(key))))

/** Everything of a finished run but clock times. */
async function outcome(folder: string, models: readonly string[]): Promise<unknown> {
  const weights = await Promise.all(models.map(async (m) => JSON.parse(await readFile(join(folder, m, 'checksums.json'), 'utf8')) as unknown))
  return { weights, metrics: timeless(await readLines(folder, 'metrics')), samples: await readLines(folder, 'samples') }
}

/** A run's folder as it was when the checkpoint of `step` had just been written, and later lines had too. */
async function cutAt(whole: string, step: number, to: string): Promise<void> {
  await cp(whole, to, { recursive: true })
  for (const c of await listCheckpoints(to)) if (c.step > step) await rm(c.folder, { recursive: true })
  for (const name of ['model', 'adapter', 'actor', 'critic', 'actor-ema']) await rm(join(to, name), { recursive: true, force: true })
  const { written } = JSON.parse(await readFile(join(to, 'checkpoints', `step-${step}`, 'state.json'), 'utf8')) as { written: Record<'metrics' | 'samples', number> }
  await truncate(join(to, 'metrics.jsonl'), written.metrics)
  await appendFile(join(to, 'metrics.jsonl'), '{"stage":"sft","step":99,"torn')
}

for (const name of slow ? ['ppo'] : ['pretrain', 'sft', 'sft in bf16, accumulated', 'sft with LoRA', 'sft in fp16', 'reward', 'reward of rankings, padded', 'dpo', 'dpo, reference asked before', 'ppo', 'ppo, padded, of an ensemble', 'grpo with a function', 'rloo with function and model'])
  test(`${name}: from every checkpoint on, weights, samples and metrics are those of the whole run`, async (t) => {
    const { stage, options, models } = (await cases(t))[name]!
    const folder = await temporaryFolder(t)
    const whole = join(folder, 'whole')
    await stage({ ...options, outputDir: whole } as never)
    const expected = await outcome(whole, models)
    const places = await listCheckpoints(whole)
    t.true(places.length >= 8, `${places.length} checkpoints`)
    for (const { step } of places.filter((_, i) => (slow ? i === 4 : options['ppoEpochs'] === undefined || i % 3 !== 1))) {
      const cut = join(folder, `cut-${step}`)
      await cutAt(whole, step, cut)
      await stage({ ...options, outputDir: cut, threads: 1 } as never)
      t.deepEqual(await outcome(cut, models), expected, `step ${step}`)
      await rm(cut, { recursive: true })
    }
  })

// what follows is the same loop on any device
if (onCpu) {
  for (const name of ['sft', 'ppo'])
    test(`${name}: stopped again and again, it ends as the whole run does`, async (t) => {
      const { stage, options, models } = (await cases(t))[name]!
      const folder = await temporaryFolder(t)
      await stage({ ...options, saveSteps: 0, outputDir: join(folder, 'whole') } as never)
      t.deepEqual(await readdir(join(folder, 'whole')).then((names) => names.includes('checkpoints')), false, 'a short run saves nothing by time')
      const stopped = join(folder, 'stopped')
      for (const stopAfter of [1, 4, 5, 11]) {
        await t.throwsAsync(() => stage({ ...options, saveSteps: 0, outputDir: stopped } as never, { ...silent, stopAfter }), { instanceOf: Interrupted })
        t.true((await listCheckpoints(stopped)).at(-1)!.step === stopAfter)
      }
      await stage({ ...options, saveSteps: 0, outputDir: stopped } as never)
      t.deepEqual(await outcome(stopped, models), await outcome(join(folder, 'whole'), models))
    })

  test('what is not the same run is refused, and the checkpoints stay', async (t) => {
    const { stage, options } = (await cases(t))['sft']!
    const folder = await temporaryFolder(t)
    const run = { ...options, outputDir: join(folder, 'run') }
    await t.throwsAsync(() => stage(run as never, { ...silent, stopAfter: 4 }), { instanceOf: Interrupted })
    const before = await readFile(join(folder, 'run', 'metrics.jsonl'), 'utf8')
    const places = await listCheckpoints(run.outputDir)
    await failsWith(t, () => stage({ ...run, learningRate: 1e-3, seed: 7 } as never), '--learning-rate 0.001 instead of 0.002, --seed 7 instead of 1234')
    await failsWith(t, () => reward(run as never), 'checkpoints of sft')
    const fewer = await writeLines(folder, 'fewer.jsonl', [{ prompt: 'say a:', chosen: 'aa', rejected: 'zz' }])
    await failsWith(t, () => stage({ ...run, dataPath: [fewer] } as never), '--data-path')
    await failsWith(t, () => stage({ ...run, dataPath: [fewer], resume: 'changed', evalFraction: 0 } as never), 'rows of the run that')
    const wider = await makeModel(folder, 'wider', { ffn_dim: 96 })
    await failsWith(t, () => stage({ ...run, modelNameOrPath: wider, resume: 'changed' } as never), 'layers.0.master as F32')
    const last = places.at(-1)!.folder
    const weights = join(last, 'model.safetensors')
    const bytes = await readFile(weights)
    await writeFile(weights, bytes.map((b, i) => (i === bytes.length - 9 ? b ^ 1 : b)))
    await failsWith(t, () => stage(run as never), 'sha256', `removing ${last}`)
    await writeFile(weights, bytes.subarray(0, 1000))
    await failsWith(t, () => stage(run as never), weights)
    await writeFile(weights, bytes)
    t.is((await readFile(join(folder, 'run', 'metrics.jsonl'), 'utf8')).slice(0, before.length), before)
    t.deepEqual(await listCheckpoints(run.outputDir), places)
    await t.notThrowsAsync(() => stage({ ...run, resume: 'never' } as never))
  })

  test('checkpoints kept: the newest, and the multiples asked for', async (t) => {
    const { stage, options } = (await cases(t))['sft']!
    const outputDir = join(await temporaryFolder(t), 'run')
    await stage({ ...options, outputDir, keepLast: 2, keepEvery: 5 } as never)
    const steps = (await listCheckpoints(outputDir)).map((c) => c.step)
    t.deepEqual(steps, [5, 10, 15, 16].filter((s) => s <= steps.at(-1)!))
    t.deepEqual((await readdir(join(outputDir, 'checkpoints'))).filter((n) => !n.startsWith('step-')), [], 'nothing half-written is left')
  })

  test('resume-check proves a run, and says where one was tampered with', async (t) => {
    const { stage, options } = (await cases(t))['ppo']!
    const run = join(await temporaryFolder(t), 'run')
    await failsWith(t, () => resumeCheck({ run }), 'two checkpoints')
    await stage({ ...options, outputDir: run, evalInterval: 0, saveSteps: 5, keepLast: 2 } as never)
    const [from, to] = (await listCheckpoints(run)).map((c) => c.step)
    const before = await readdir(run, { recursive: true })
    const result = await resumeCheck({ run })
    t.like(result, { from: from!, to: to!, metrics: to! - from!, tensorFiles: 4, equal: true })
    t.deepEqual(await readdir(run, { recursive: true }), before, 'the run itself is not touched')
    const metrics = join(run, 'metrics.jsonl')
    const lines = (await readFile(metrics, 'utf8')).split('\n')
    await writeFile(metrics, lines.map((line) => (line.includes(`"step":${to},`) ? line.replace(/"objective\/kl":-?0\.(\d)/, (text, d: string) => text.slice(0, -1) + ((Number(d) + 1) % 10)) : line)).join('\n'))
    await failsWith(t, () => resumeCheck({ run }), 'metrics.jsonl', '"objective/kl"')
  })

  test('train goes on in the step it was in, and does no step twice', async (t) => {
    const { folder, model, data } = await makeSetting(t)
    const given = {
      actorModelNameOrPath: model,
      dataPath: [data],
      maxSeqLen: 48,
      sft: { maxSteps: 3, perDeviceTrainBatchSize: 2 },
      reward: { maxSteps: 3, perDeviceTrainBatchSize: 2 },
      ppo: { maxPromptSeqLen: 20, maxAnswerSeqLen: 5, perDeviceGenerationBatchSize: 6, perDeviceTrainingBatchSize: 3, maxSteps: 4 },
    }
    const [whole, cut] = [join(folder, 'whole'), join(folder, 'cut')]
    await train({ ...given, outputDir: whole })
    const notes: string[] = []
    const progress = new Progress({ write: (text: string) => notes.push(text) })
    await t.throwsAsync(() => train({ ...given, outputDir: cut }, { progress, signal: AbortSignal.abort() }), { instanceOf: Interrupted })
    await t.throwsAsync(() => train({ ...given, outputDir: cut }, { progress, stopAfter: 2 }), { instanceOf: Interrupted })
    notes.length = 0
    await t.throwsAsync(() => train({ ...given, outputDir: cut }, { progress, stopAfter: 4 }), { instanceOf: Interrupted })
    t.true(notes.some((n) => n.includes('sft: goes on after step 2')))
    notes.length = 0
    await train({ ...given, outputDir: cut }, { progress })
    t.true(notes.some((n) => n.includes('step 1 of 3: sft is done')) && notes.some((n) => n.includes('step 2 of 3: reward is done')))
    t.deepEqual(await outcome(join(cut, 'ppo'), ['actor', 'critic']), await outcome(join(whole, 'ppo'), ['actor', 'critic']))
    notes.length = 0
    await train({ ...given, outputDir: cut, resume: 'never' }, { progress })
    t.false(notes.some((n) => n.includes('is done')))
    t.deepEqual(await outcome(join(cut, 'sft'), ['model']), await outcome(join(whole, 'sft'), ['model']))
  })
}
