// `threefold train`: supervised fine-tuning, reward model and PPO in a row.
import { join } from 'node:path'

import { UsageError } from '../base/errors.js'
import { ensureWritable, pathExists, readJsonIfThere, writeJson } from '../base/files.js'
import { lockFolder } from '../base/folderLock.js'
import type { Given, Resolved } from '../base/options.js'
import { flagName, resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { checkRewardLoss } from './compat.js'
import { withDeepspeedConfig } from './deepspeedConfig.js'
import { checkRoom, planPpo, planReward, planSft } from './dryRun.js'
import type { PreviewStyle, StagePlan } from './dryRun.js'
import { modelOfSize } from './optSizes.js'
import { loraOf } from './loop.js'
import { planMemory } from './memory.js'
import { ppoOptions, rewardOptions, sftOptions } from './options.js'
import { actorLora, criticLora } from './ppoModels.js'
import { PretrainingMix } from './pretrainingMix.js'
import { checkPpo, ppo } from './ppo.js'
import type { PpoOptions, PpoResult } from './ppo.js'
import { reward } from './reward.js'
import type { RewardOptions, RewardResult } from './reward.js'
import { sft } from './sft.js'
import type { LanguageResult, SftOptions } from './sft.js'
import { differences } from './saves.js'
import type { SaveOptions } from './saves.js'
import { expectRunFolder, loadSpec, silent, startOf } from './shared.js'
import { pipelineOptions, prefixedKey, stepOptions } from './trainOptions.js'
import type { StepName } from './trainOptions.js'

/** What the steps share, and for each step the options in which it differs from its defaults. */
export type TrainGiven = Given<typeof pipelineOptions> & { sft?: Partial<SftOptions>; reward?: Partial<RewardOptions>; ppo?: Partial<PpoOptions> }

export interface TrainResult {
  sft?: LanguageResult
  reward?: RewardResult
  ppo?: PpoResult
  /** Seconds of each step that ran. */
  seconds: Partial<Record<StepName, number>>
  outputDir: string
}

interface Plan {
  shared: Resolved<typeof pipelineOptions>
  steps: readonly StepName[]
  sft: Given<typeof sftOptions>
  reward: Given<typeof rewardOptions>
  ppo: Given<typeof ppoOptions>
  /** What each step was given for itself, by flag or by --deepspeed-config. */
  own: Partial<Record<StepName, object>>
}

const stageOptions = { sft: sftOptions, reward: rewardOptions, ppo: ppoOptions }

/** Runs the steps; each folder D/sft, D/reward, D/ppo is a run's folder of its own. */
export async function train(given: TrainGiven, hooks: RunHooks = silent): Promise<TrainResult> {
  const plan = await settle(given, hooks)
  const { shared } = plan
  await checkSteps(plan, hooks)
  await expectRunFolder(shared.outputDir)
  await ensureWritable(shared.outputDir)
  const lock = await lockFolder(shared.outputDir, '--output-dir')
  try {
    return await runSteps(plan, given, hooks)
  } finally {
    await lock.release()
  }
}

async function runSteps(plan: Plan, given: TrainGiven, hooks: RunHooks): Promise<TrainResult> {
  const { shared, steps } = plan
  const config = { stage: 'train', ...shared, ...given, ...plan.own }
  const result: TrainResult = { ...(await resultsSoFar(shared, config)), outputDir: shared.outputDir }
  // what a later step would refuse of its folder, before the first one starts
  if (shared.resume !== 'never') for (const step of steps) if (!result[step]) await startOf(step, resolveOptions(step, stageOptions[step], plan[step]) as SaveOptions)
  await writeJson(join(shared.outputDir, 'config.json'), config)
  for (const [i, step] of steps.entries()) {
    const title = `step ${i + 1} of ${steps.length}: ${step}`
    if (result[step]) {
      hooks.progress.note(`${title} is done (--resume never does it again)`)
      continue
    }
    hooks.progress.note(title)
    const started = performance.now()
    if (step === 'sft') result.sft = await sft(plan.sft, hooks)
    else if (step === 'reward') result.reward = await reward(plan.reward, hooks)
    else result.ppo = await ppo(plan.ppo, hooks)
    result.seconds[step] = (performance.now() - started) / 1000
    await writeJson(join(shared.outputDir, 'result.json'), result)
  }
  return result
}

/** What the same command has done already: results of whole steps whose models are still there. */
async function resultsSoFar({ outputDir, resume }: Plan['shared'], config: Record<string, unknown>): Promise<Pick<TrainResult, StepName | 'seconds'>> {
  const read = (name: string): Promise<Record<string, unknown> | null> => readJsonIfThere(join(outputDir, name)) as Promise<Record<string, unknown> | null>
  const [then, result] = await Promise.all([read('config.json'), read('result.json')])
  if (resume === 'never' || !then || !result || differences({ ...then, step: [] }, { ...config, step: [] }).length > 0) return { seconds: {} }
  const { sft: s, reward: r, ppo: p, seconds } = result as unknown as TrainResult
  const there = async (model: string | null | undefined): Promise<boolean> => typeof model === 'string' && (await pathExists(model))
  return {
    seconds,
    ...((await there(s?.model)) && s && { sft: s }),
    ...((await there(r?.model)) && r && { reward: r }),
    ...((await there(p?.actor)) && p && { ppo: p }),
  }
}

/** What each step would do. A model that an earlier step has yet to make is taken to be like the one it starts from. */
export async function planTrain(given: TrainGiven, style: PreviewStyle = {}): Promise<StagePlan[]> {
  const plan = await settle(given, style.hooks ?? silent)
  await checkSteps(plan, style.hooks ?? silent)
  const { actorModelNameOrPath: base, rewardModelNameOrPath } = plan.shared
  const rewardBase = rewardModelNameOrPath ?? base
  const out: StagePlan[] = []
  for (const step of plan.steps) {
    if (step === 'sft') out.push(await planSft(plan.sft, style))
    else if (step === 'reward') out.push(await planReward({ ...plan.reward, modelNameOrPath: rewardBase }, style))
    else out.push(await planPpo({ ...plan.ppo, actorModelNameOrPath: base, criticModelNameOrPath: rewardBase }, style))
  }
  return out
}

/** Every option checked before the first step starts. */
async function settle({ sft: sftGiven, reward: rewardGiven, ppo: ppoGiven, ...rest }: TrainGiven, hooks: RunHooks): Promise<Plan> {
  const { given, note } = await withDeepspeedConfig(pipelineOptions, rest, rest.deepspeedConfig)
  if (note !== null) hooks.progress.note(note)
  const shared = resolveOptions('train', pipelineOptions, given)
  shared.actorModelNameOrPath = await modelOfSize(shared.actorModelNameOrPath)
  if (shared.rewardModelNameOrPath !== null) shared.rewardModelNameOrPath = await modelOfSize(shared.rewardModelNameOrPath)
  const [s, r, p] = [await own('sft', sftGiven, shared), await own('reward', rewardGiven, shared), await own('ppo', ppoGiven, shared)]
  const { dataPath, dataWeights, columns, dataSplit, evalDataPath, evalFraction, dataOutputPath, maxSeqLen, device, dtype, threads, seed, outputDir, enableTensorboard, tensorboardPath } = shared
  const { saveSteps, saveSeconds, keepLast, keepEvery, resume } = shared
  const saves = { saveSteps, saveSeconds, keepLast, keepEvery, resume }
  const { compat, padTokenId, numPaddingAtBeginning } = shared
  checkRewardLoss({ compat, rewardLoss: rewardGiven?.rewardLoss })
  const common = { dataPath, dataWeights, columns, dataSplit, evalDataPath, evalFraction, dataOutputPath, device, dtype, threads, seed, ...saves }
  const events = (step: StepName) => ({ enableTensorboard, tensorboardPath: tensorboardPath === null ? null : join(tensorboardPath, step) })
  const at = (...parts: string[]): string => join(outputDir, ...parts)
  return {
    shared,
    steps: chosenSteps(shared.step),
    sft: { ...common, ...events('sft'), maxSeqLen, ...s, modelNameOrPath: shared.actorModelNameOrPath, outputDir: at('sft') },
    reward: { ...common, ...events('reward'), compat, padTokenId, numPaddingAtBeginning, maxSeqLen, ...r, modelNameOrPath: shared.rewardModelNameOrPath ?? at('sft', 'model'), outputDir: at('reward') },
    ppo: { ...common, ...events('ppo'), compat, padTokenId, ...p, actorModelNameOrPath: at('sft', 'model'), criticModelNameOrPath: at('reward', 'model'), outputDir: at('ppo') },
    own: Object.fromEntries(Object.entries({ sft: s, reward: r, ppo: p }).filter(([, values]) => Object.keys(values).length > 0)),
  }
}

/** The options of one step that are given or stand in --deepspeed-config, checked and typed; its defaults stay with the step. */
async function own<O extends object>(step: StepName, flags: O = {} as O, { deepspeedConfig }: Plan['shared']): Promise<O> {
  const known = stepOptions[step]
  const unknown = Object.keys(flags).find((key) => !(key in known))
  if (unknown) throw new UsageError('train', `options of the step ${step} that are not shared by all`, unknown, `one of ${Object.keys(known).join(', ')}`)
  // checked under the name that the command line gives them, so that an error says --ppo-gamma
  const name = (key: string): string => prefixedKey(step, key)
  const { given } = await withDeepspeedConfig(known, flags as Record<string, unknown>, deepspeedConfig, (key) => flagName(name(key)))
  const table = Object.fromEntries(Object.keys(given).map((key) => [name(key), known[key]!]))
  const values = resolveOptions('train', table, Object.fromEntries(Object.entries(given).map(([key, value]) => [name(key), value])))
  return Object.fromEntries(Object.keys(given).map((key) => [key, values[name(key)]])) as O
}

function chosenSteps(step: readonly string[]): StepName[] {
  const names: StepName[] = ['sft', 'reward', 'ppo']
  const wrong = step.find((s) => !['1', '2', '3'].includes(s))
  if (wrong !== undefined) throw new UsageError('--step', '1, 2 or 3', wrong, '--step 1 2 3')
  return step.length === 0 ? names : names.filter((_, i) => step.includes(String(i + 1)))
}

/** What a later step would refuse would otherwise be found only after training of the ones before. */
async function checkSteps({ shared, steps, sft: sftGiven, reward: rewardGiven, ppo: given }: Plan, hooks: RunHooks): Promise<void> {
  const ppoOwn = resolveOptions('ppo', ppoOptions, given)
  if (steps.includes('ppo')) {
    await checkPpo(ppoOwn)
    await PretrainingMix.find(ppoOwn, hooks)
  }
  const { spec } = await loadSpec(shared.actorModelNameOrPath, hooks)
  const factors = { sft: [loraOf(resolveOptions('sft', sftOptions, sftGiven))], reward: [loraOf(resolveOptions('reward', rewardOptions, rewardGiven))], ppo: [actorLora(ppoOwn), criticLora(ppoOwn)] }
  const rewardSpec = shared.rewardModelNameOrPath === null ? spec : (await loadSpec(shared.rewardModelNameOrPath, hooks)).spec
  for (const step of steps)
    for (const lora of factors[step]) planMemory([{ spec: step === 'reward' || lora.who === 'critic' ? rewardSpec : spec, head: 'logprob', trained: true, lora }], 'fp32', { tokens: 1 })
  if (steps.includes('ppo')) checkRoom([spec], given.maxPromptSeqLen ?? ppoOptions.maxPromptSeqLen.default, given.maxAnswerSeqLen ?? ppoOptions.maxAnswerSeqLen.default, '--ppo-max-prompt-seq-len or --ppo-max-answer-seq-len')
}
