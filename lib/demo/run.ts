// `threefold demo`: a base model from scratch, then the three steps as any user would run them, then the judge's table.
import { join } from 'node:path'

import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { LoadedModel, readConfig } from '../checkpoint/model.js'
import { pretrain } from '../stages/pretrain.js'
import { ppo } from '../stages/ppo.js'
import type { PpoResult } from '../stages/ppo.js'
import { reward } from '../stages/reward.js'
import { sft } from '../stages/sft.js'
import { silent } from '../stages/shared.js'
import { createDevice } from '../tensor/device.js'
import { createChecker } from './checker.js'
import { writeDemoFiles } from './files.js'
import type { Gold } from './judge.js'
import { judge } from './judge.js'
import { demoOptions } from './options.js'
import { plan } from './plan.js'
import { makeWorld } from './world.js'

export interface DemoResult {
  /** Share of right-and-polite answers on held-out prompts. */
  gold: { base: number; sft: number; ppo: number; control?: number }
  details: Record<string, Gold>
  /** Mean KL of PPO's answers from the reference, and reward accuracy on held-out pairs. */
  kl: number | null
  rewardAccuracy: number | null
  /** Seconds of each step and of all. */
  times: Record<string, number>
  seconds: number
  folder: string
}

export async function runDemo(given: Given<typeof demoOptions> = {}, hooks: RunHooks = silent): Promise<DemoResult> {
  const { seed, threads, outputDir, control, checkLogprobs } = resolveOptions('demo', demoOptions, given)
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
  const machine = { seed, threads }

  const world = makeWorld(seed)
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

  const details = await timed('judge', () => judgeAll(folders, world, seed, threads))
  const gold = Object.fromEntries(Object.entries(details).map(([name, g]) => [name, g.share])) as DemoResult['gold']
  return { gold, details, kl: trained.after?.kl ?? null, rewardAccuracy: rm.after?.accuracy ?? null, times, seconds: (performance.now() - started) / 1000, folder: outputDir }
}

async function initModel(blueprint: string, folder: string, seed: number, threads: number): Promise<void> {
  using device = createDevice({ threads })
  using model = await LoadedModel.init(device, await readConfig(blueprint), blueprint, blueprint, seed, 'fp32')
  await model.save(folder)
}

async function judgeAll(folders: Record<string, string>, world: ReturnType<typeof makeWorld>, seed: number, threads: number): Promise<Record<string, Gold>> {
  using device = createDevice({ threads })
  const check = createChecker(world.facts)
  const details: Record<string, Gold> = {}
  for (const [name, folder] of Object.entries(folders)) details[name] = await judge(device, folder, world.testPrompts, check, seed)
  return details
}
