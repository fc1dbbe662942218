// What the stages have in common: opening the machine, counting steps, saying what was dropped, saving at the end.
import { join } from 'node:path'

import { UsageError, fail } from '../base/errors.js'
import { ensureWritable, pathExists, readJsonIfThere } from '../base/files.js'
import { lockFolder } from '../base/folderLock.js'
import { isJsonObject } from '../base/json.js'
import { Progress } from '../base/progress.js'
import { Run, leaveNothing } from '../base/run.js'
import type { RunHooks } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { RunCheckpoint } from '../checkpoint/runCheckpoint.js'
import { saveAdapter } from '../checkpoint/adapter.js'
import type { Adapter } from '../checkpoint/adapter.js'
import { expectReplaceable, readConfig } from '../checkpoint/modelFolder.js'
import { epochOrder, batches } from '../data/epochs.js'
import type { HubHooks } from '../hub/resolve.js'
import { baseOf, findModel, openModel } from './openModel.js'
import type { OpenOptions } from './openModel.js'
import { readSpec } from '../model/families/registry.js'
import type { DecoderSpec } from '../model/spec.js'
import { Saves, differences, findCheckpoint } from './saves.js'
import type { SaveOptions } from './saves.js'
import { createDevice } from '../tensor/device.js'
import type { DType, NativeDevice } from '../tensor/device.js'

export interface MachineOptions {
  device: string
  dtype: string
  threads: number
  seed: number
}

export function openDevice({ device, threads }: MachineOptions): NativeDevice & Disposable {
  return createDevice({ device, threads })
}

/** From a folder or a hub id. */
export async function loadModel(device: NativeDevice, idOrPath: string, options: MachineOptions, hooks: RunHooks, rest: Omit<OpenOptions, 'dtype'> = {}): Promise<LoadedModel> {
  return openModel(device, idOrPath, { dtype: options.dtype as DType, seed: options.seed, ...rest }, hubHooks(hooks))
}

/** Family and numbers of a folder or a hub id, without its weights. */
export async function loadSpec(idOrPath: string, hooks: RunHooks): Promise<{ folder: string; spec: DecoderSpec; adapter: Adapter | null }> {
  const { folder, adapter } = await findModel(idOrPath, { ...hubHooks(hooks), weights: false })
  return { folder, spec: readSpec((await readConfig(folder)).json, join(folder, 'config.json')).spec, adapter }
}

export const silent: RunHooks = { progress: new Progress(process.stderr, true) }

/** A download from the hub shows on the run's progress line and ends with the run. */
export function hubHooks({ progress, signal }: RunHooks): HubHooks {
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6)
  return { signal, onProgress: ({ id, file, bytes, totalBytes }) => progress.update(`download ${id}`, megabytes(bytes), megabytes(totalBytes), ['MB', file]) }
}

export interface LoopOptions {
  numTrainEpochs: number
  maxSteps: number
  seed: number
}

/** Optimizer steps of a run over `rows` rows (or packs). */
export function totalSteps(rows: number, rowsPerStep: number, { numTrainEpochs, maxSteps }: LoopOptions): number {
  const all = Math.ceil(rows / rowsPerStep) * numTrainEpochs
  return maxSteps > 0 ? Math.min(maxSteps, all) : all
}

/** The rows of every optimizer step after the first `done`, epoch after epoch; each epoch's order depends on seed and epoch alone. */
export function* stepsOf(rows: number, rowsPerStep: number, options: LoopOptions, done = 0): Generator<Int32Array> {
  const total = totalSteps(rows, rowsPerStep, options)
  const perEpoch = Math.ceil(rows / rowsPerStep)
  let step = 0
  for (let epoch = 0; ; epoch++) {
    if (step + perEpoch <= Math.min(done, total)) {
      step += perEpoch
      continue
    }
    for (const batch of batches(epochOrder(rows, options.seed, epoch), rowsPerStep)) {
      if (step++ >= total) return
      if (step > done) yield batch
    }
  }
}

/** Cuts a list into pieces of `size`. */
export function pieces<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size))
}

/** Saves into D/<name> and returns the folder, or null when nothing is kept. */
export async function saveModel(model: LoadedModel, outputDir: string | null, name = 'model'): Promise<string | null> {
  if (outputDir === null) return null
  const folder = join(outputDir, name)
  await model.save(folder)
  return folder
}

/** Saves LoRA's factors into D/<name> as an adapter of the model that was trained, where they are all that was trained. */
export async function saveFactors(run: Run, model: LoadedModel, idOrPath: string, outputDir: string | null, name = 'adapter'): Promise<void> {
  if (outputDir === null || !model.decoder.lora?.options.only) return
  await saveAdapter(model, await baseOf(idOrPath, hubHooks(run.hooks)), join(outputDir, name))
}

export interface TensorboardOptions {
  outputDir: string | null
  enableTensorboard: boolean
  tensorboardPath: string | null
}

/** Null without --enable-tensorboard. Error: there is no place for events. */
function eventsFolder({ outputDir, enableTensorboard, tensorboardPath }: TensorboardOptions): string | null {
  if (!enableTensorboard) return null
  if (outputDir === null && tensorboardPath === null) throw new UsageError('--enable-tensorboard', '--tensorboard-path or --output-dir', 'neither', '--tensorboard-path D')
  return tensorboardPath ?? join(outputDir!, 'tensorboard')
}

/** The run writes its own config.json. Error: there is one of something else, such as a model's. */
export async function expectRunFolder(folder: string | null): Promise<void> {
  const config = folder === null ? null : await readJsonIfThere(join(folder, 'config.json'))
  if (config !== null && !(isJsonObject(config) && typeof config['stage'] === 'string'))
    fail('--output-dir', 'a new folder, or that of an earlier run', `${folder} with a config.json of something else`, 'another name')
}

/** What stages save in their folders, besides a run's own files. */
const savedModels = ['model', 'adapter', 'actor', 'actor-adapter', 'actor-ema', 'critic', 'critic-adapter']

/** The checkpoint that a run would go on from, null where it starts anew. Errors: it is one of another configuration; a run with other options ended here, and its models would be lost. */
export async function startOf(stage: string, options: SaveOptions): Promise<RunCheckpoint | null> {
  const resumed = await findCheckpoint(stage, options)
  if (!resumed && options.outputDir !== null && options.resume !== 'never') await expectNothingElse(options.outputDir, stage, options)
  return resumed
}

async function expectNothingElse(folder: string, stage: string, options: SaveOptions): Promise<void> {
  const config = await readJsonIfThere(join(folder, 'config.json'))
  const made = (await Promise.all(savedModels.map((name) => pathExists(join(folder, name))))).includes(true)
  if (!made || !isJsonObject(config)) return
  const { stage: then, ...before } = config
  if (then !== stage) fail('--output-dir', `a folder for a run of ${stage}`, `${folder} with what ${String(then)} made`, 'another --output-dir, or --resume never to write over it')
  const known = Object.fromEntries(Object.entries({ ...options }).filter(([key]) => key in before))  // an older version knew fewer
  const changed = differences(before, known)
  if (changed.length > 0) fail('--output-dir', `a new folder, or the options of the run that ended in ${folder}`, changed.join(', '), 'another --output-dir, or --resume never to write over what is there')
}

type RunOptions = SaveOptions & TensorboardOptions

/** Opens the run's folder, new or where a checkpoint left it, runs `body`, closes it whatever happens. Errors: another run is in it, or left what this one would write over. */
export async function withRun<T>(stage: string, options: RunOptions, hooks: RunHooks, body: (run: Run, saves: Saves) => Promise<T>): Promise<T> {
  const folder = options.outputDir
  const events = eventsFolder(options)
  if (folder === null) return openRun(stage, options, hooks, events, body)
  await expectRunFolder(folder)
  // what the stage will save must not take the place of something else: said before the work, not after it
  for (const name of savedModels) await expectReplaceable(join(folder, name))
  const isNew = !(await pathExists(folder))
  await ensureWritable(folder)
  const lock = await lockFolder(folder, '--output-dir')
  let ended = false
  try {
    const result = await openRun(stage, options, hooks, events, body)
    ended = true
    return result
  } finally {
    if (isNew && !ended) await leaveNothing(folder).catch(() => undefined)  // what went wrong before is what counts
    await lock.release()
  }
}

async function openRun<T>(stage: string, options: RunOptions, hooks: RunHooks, events: string | null, body: (run: Run, saves: Saves) => Promise<T>): Promise<T> {
  const resumed = await startOf(stage, options)
  const run = await Run.open(stage, options.outputDir, options, hooks, resumed?.state, events)
  const saves = new Saves(run, options, resumed)
  try {
    const result = await body(run, saves)
    await saves.settle()
    return result
  } finally {
    await saves.settle().catch(() => undefined)
    await run.close()
  }
}

/** Tokens per second since the last call. */
export class Throughput {
  #at = performance.now()

  /** Seconds since the last call and the rate for `tokens`. */
  tick(tokens: number): { seconds: number; tokensPerSecond: number } {
    const now = performance.now()
    const seconds = (now - this.#at) / 1000
    this.#at = now
    return { seconds, tokensPerSecond: tokens / Math.max(seconds, 1e-9) }
  }
}
