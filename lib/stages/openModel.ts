// A model by path or hub id: a folder in the Hugging Face layout, or a LoRA adapter, whose base is found and merged with it.
import { join, resolve } from 'node:path'

import { fail } from '../base/errors.js'
import { flagName } from '../base/options.js'
import { pathExists } from '../base/files.js'
import { bakeLora, loadAdapter, readAdapter } from '../checkpoint/adapter.js'
import type { Adapter } from '../checkpoint/adapter.js'
import { LoadedModel } from '../checkpoint/model.js'
import type { LoadOptions } from '../checkpoint/model.js'
import { resolveModel } from '../hub/resolve.js'
import type { ResolveOptions } from '../hub/resolve.js'
import type { Decoder } from '../model/decoder.js'
import type { Family } from '../model/families/family.js'
import { Lora, chooseModules, linearModules } from '../model/lora.js'
import type { LoraModule, LoraOptions } from '../model/lora.js'
import type { NativeDevice } from '../tensor/device.js'

/** As the flags say it; `who` is "actor" or "critic" where they carry a name. */
export interface LoraSettings {
  who?: 'actor' | 'critic'
  dim: number
  /** Parts of module names; none = all. */
  modules: readonly string[]
  /** 0 = dim. */
  alpha: number
  dropout: number
  only: boolean
}

export interface OpenOptions extends LoadOptions {
  /** What is trained with LoRA; dim 0 = nothing. */
  lora?: LoraSettings
}

/** The folder with a model's config.json and weights, and the adapter that goes on it. */
export async function findModel(idOrPath: string, options: ResolveOptions): Promise<{ folder: string; adapter: Adapter | null }> {
  const folder = await resolveModel(idOrPath, options)
  const adapter = (await pathExists(join(folder, 'config.json'))) ? null : await readAdapter(folder)
  if (!adapter) return { folder, adapter }
  // a path in the file is one from where PEFT ran, or, where a folder was moved with its base, from the adapter
  const beside = join(folder, adapter.base)
  const base = await resolveModel(!(await pathExists(adapter.base)) && (await pathExists(beside)) ? beside : adapter.base, options)
  if (!(await pathExists(join(base, 'config.json')))) fail('adapter', `a model as the base of ${folder}`, `${base} without config.json`, 'to merge the adapters one after another with PEFT')
  return { folder: base, adapter }
}

/** What an adapter names as its base: a hub id as it is, a folder by its whole path; an adapter has the base of the one it goes on from. */
export async function baseOf(idOrPath: string, hub: ResolveOptions): Promise<string> {
  const { folder, adapter } = await findModel(idOrPath, { ...hub, weights: false })
  const named = adapter?.base ?? idOrPath
  const local = (await pathExists(named)) || (adapter !== null && (await pathExists(join(adapter.folder, named))))
  return local ? resolve(folder) : named
}

/**
 * Loads a model. An adapter is merged into its base and forgotten; with LoRA its factors go on training. Errors: as
 * LoadedModel.load and loadAdapter; LoRA settings that are not the adapter's.
 */
export async function openModel(device: NativeDevice, idOrPath: string, options: OpenOptions, hub: ResolveOptions): Promise<LoadedModel> {
  const { folder, adapter } = await findModel(idOrPath, hub)
  const { lora, ...load } = options
  const head = load.head ?? (adapter?.scalar ? 'scalar' : undefined)
  const model = await LoadedModel.load(device, folder, { ...load, ...(head && { head }) })
  try {
    const seed = options.seed ?? 0
    if (adapter) await loadAdapter(model, adapter, { dropout: lora?.dropout ?? 0, only: lora?.only ?? true, seed })
    if (!lora || lora.dim === 0) bakeLora(model.decoder)
    else if (adapter) expectSame(model, adapter, lora)
    else {
      model.decoder.lora = new Lora(model.decoder, modulesOf(model.decoder, model.family, lora), loraOptions(lora, seed))
      model.decoder.lora.start()
    }
    return model
  } catch (error) {
    model.dispose()
    throw error
  }
}

const flagOf = ({ who }: LoraSettings, key: string): string => flagName(who ? who + key[0]!.toUpperCase() + key.slice(1) : key)

export const loraOptions = ({ dim, alpha, dropout, only }: LoraSettings, seed: number): LoraOptions => ({ dim, alpha: alpha || dim, dropout, only, seed })

/** The modules that get factors. Error: a pattern that matches none, by the name of its flag. */
export function modulesOf(decoder: Decoder, family: Family, lora: LoraSettings): LoraModule[] {
  const patterns = lora.modules.flatMap((m) => m.split(',')).map((m) => m.trim())
  const all = linearModules(decoder, family)
  return patterns.length === 0 ? all : chooseModules(all, patterns, flagOf(lora, 'loraModuleName'))
}

/** Training goes on with an adapter's factors as they are. Error: another rank or alpha. */
export function expectRank({ dim, alpha, folder }: Adapter, lora: LoraSettings): void {
  const refuse = (flag: string, expected: string | number, received: string | number): never => fail(flag, `${expected}, as in the adapter ${folder}`, `${received}`, `${flag} ${expected}, or the adapter's base to start another`)
  if (lora.dim !== dim) refuse(flagOf(lora, 'loraDim'), dim, lora.dim)
  if (lora.alpha !== 0 && lora.alpha !== alpha) refuse('--lora-alpha', alpha, lora.alpha)
}

function expectSame({ decoder, family }: LoadedModel, adapter: Adapter, lora: LoraSettings): void {
  expectRank(adapter, lora)
  if (lora.modules.length === 0) return
  const chosen = modulesOf(decoder, family, lora).map((m) => m.name)
  const own = decoder.lora!.modules.map((m) => m.name)
  if (chosen.join() !== own.join()) fail(flagOf(lora, 'loraModuleName'), `the ${own.length} modules of the adapter ${adapter.folder}`, `${chosen.length}`, 'leaving it out, or the adapter\'s base to start another')
}
