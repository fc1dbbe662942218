// `threefold demo`: a base model from scratch, then the three steps as any user would run them, then the judge's table.
import { join } from 'node:path'

import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { LoadedModel } from '../checkpoint/model.js'
import { readConfig } from '../checkpoint/modelFolder.js'
import { pretrain } from '../stages/pretrain.js'
import { ppo } from '../stages/ppo.js'
import type { PpoResult } from '../stages/ppo.js'
import { reward } from '../stages/reward.js'
import { sft } from '../stages/sft.js'
import { openDevice, silent } from '../stages/shared.js'
import type { MachineOptions } from '../stages/shared.js'
import { createDevice } from '../tensor/device.js'
import { createChecker } from './checker.js'
import { writeDemoFiles } from './files.js'
import type { Gain, Gold, Judged } from './judge.js'
import { gainOver, judge } from './judge.js'
import { demoOptions } from './options.js'
import { plan as fullPlan, quickPlan } from './plan.js'
import { makeWorld } from './world.js'
import type { World } from './world.js'

export interface DemoResult {
  /** Share of right-and-polite answers on held-out prompts. */
  gold: { base: number; sft: number; ppo: number; control?: number }
  details: Record<string, Gold>
  /** SFT over base, PPO over SFT, and the control over SFT, which must gain nothing. */
  gains: Record<string, Gain>
  /** Mean KL of PPO's answers from the reference, and reward accuracy on held-out pairs. */
  kl: number | null
  rewardAccuracy: number | null
  /** Seconds of each step and of all. */
  times: Record<string, number>
  seconds: number
  folder: string
}

export async function runDemo(given: Given<typeof demoOptions> = {}, hooks: RunHooks = silent): Promise<DemoResult> {
  const { seed, device, dtype, threads, quick, outputDir, control, checkLogprobs } = resolveOptions('demo', demoOptions, given)
  const plan = quick ? quickPlan : fullPlan
  const times: Record<string, number> = {}
  const started = performance.now()
  const timed = async <T>(name: string, body: () => Promise<T>): Promise<T> => {
    const begin = performance.now()
    hooks.progress.note(`--- ${name}`)
    const result = await body()
    times[name] = (performance.now() - begin) / 1000
    return result
  }
  const at = (...parts: string[]): string => join(outputDir, ...parts)
  const machine = { seed, device, dtype, threads, resume: 'never' as const }

  const world = makeWorld(seed, plan.sizes)
  const files = await timed('world', () => writeDemoFiles(world, outputDir))
  await timed('init', () => initModel(files.blueprint, at('init'), seed, threads))
  await timed('pretrain', () => pretrain({ ...machine, ...plan.pretrain, modelNameOrPath: at('init'), dataPath: [files.pretrain], outputDir: at('pretrain') }, hooks))
  const base = at('pretrain', 'model')
  const data = { ...machine, dataPath: [files.preference], dataSplit: plan.dataSplit, evalFraction: plan.evalFraction }
  await timed('sft', () => sft({ ...data, ...plan.sft, modelNameOrPath: base, outputDir: at('sft') }, hooks))
  const actor = at('sft', 'model')
  const rm = await timed('reward', () => reward({ ...data, ...plan.reward, modelNameOrPath: actor, outputDir: at('reward') }, hooks))
  const train = (critic: string, folder: string): Promise<PpoResult> =>
    ppo({ ...data, ...plan.ppo, checkLogprobs, actorModelNameOrPath: actor, criticModelNameOrPath: critic, outputDir: folder }, hooks)
  const trained = await timed('ppo', () => train(at('reward', 'model'), at('ppo')))
  const folders: Record<string, string> = { base, sft: actor, ppo: at('ppo', 'actor') }
  if (control) {
    await timed('control', async () => {
      await reward({ ...data, ...plan.reward, modelNameOrPath: actor, outputDir: at('control-reward'), shuffleLabels: true }, hooks)
      await train(at('control-reward', 'model'), at('control'))
    })
    folders['control'] = at('control', 'actor')
  }

  const judged = await timed('judge', () => judgeAll(folders, world, machine, plan.maxAnswer))
  const gold = eachOf(judged, (j) => j.gold.share) as DemoResult['gold']
  const details = eachOf(judged, (j) => j.gold)
  const gain = (name: string, over: string): Record<string, Gain> => ({ [name]: gainOver(over, judged[name]!, judged[over]!) })
  const gains = { ...gain('sft', 'base'), ...gain('ppo', 'sft'), ...(control ? gain('control', 'sft') : {}) }
  return { gold, details, gains, kl: trained.after?.kl ?? null, rewardAccuracy: rm.after?.accuracy ?? null, times, seconds: (performance.now() - started) / 1000, folder: outputDir }
}

async function initModel(blueprint: string, folder: string, seed: number, threads: number): Promise<void> {
  using device = createDevice({ threads })
  using model = await LoadedModel.init(device, await readConfig(blueprint), blueprint, blueprint, seed, 'fp32')
  await model.save(folder)
}

async function judgeAll(folders: Record<string, string>, world: World, machine: MachineOptions, maxAnswer: number): Promise<Record<string, Judged>> {
  using device = openDevice(machine)
  const check = createChecker(world.facts)
  const judged: Record<string, Judged> = {}
  for (const [name, folder] of Object.entries(folders)) judged[name] = await judge(device, folder, world.testPrompts, check, { ...machine, maxAnswer })
  return judged
}

function eachOf<A, B>(all: Record<string, A>, of: (a: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(all).map(([name, a]) => [name, of(a)]))
}
