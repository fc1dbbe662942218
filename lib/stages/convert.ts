// `convert`: a checkpoint in another type, in files of another size, or from pytorch_model.bin to safetensors. Any model:
// names and numbers go through as they are, except that DeepSpeed-Chat's reward models get stock names. A LoRA adapter is merged
// into its base.
import { basename, dirname, join, resolve } from 'node:path'

import { Interrupted, UsageError, fail } from '../base/errors.js'
import { atomicFolder, ensureWritable, writeFileAtomic } from '../base/files.js'
import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { writeChecksums } from '../checkpoint/checksums.js'
import { convertedTensors } from '../checkpoint/converted.js'
import type { FloatDtype } from '../checkpoint/converted.js'
import { deepspeedChatNames } from '../checkpoint/deepspeedChatNames.js'
import { copyGenerationConfig } from '../checkpoint/generationConfig.js'
import { expectReplaceable, readConfig, savedConfig } from '../checkpoint/modelFolder.js'
import { tensorBytes } from '../checkpoint/safetensorsWriter.js'
import type { TensorSource } from '../checkpoint/safetensorsWriter.js'
import { writeSafetensorsFolder } from '../checkpoint/shards.js'
import { isFloatDtype } from '../checkpoint/storedDtype.js'
import { openWeights } from '../checkpoint/storedTensors.js'
import type { StoredTensor } from '../checkpoint/storedTensors.js'
import { copyTokenizer } from '../data/tokenizerFiles.js'
import { familyOf } from '../model/families/registry.js'
import { createDevice } from '../tensor/device.js'
import type { DType } from '../tensor/device.js'
import { findModel, openModel } from './openModel.js'
import { hubHooks, silent } from './shared.js'
import { convertOptions } from './useOptions.js'

export interface ConvertResult {
  model: string
  tensors: number
  /** Of all tensors. */
  bytes: number
  /** Files of weights. */
  files: string[]
}

const DTYPES: Readonly<Record<string, FloatDtype | null>> = { same: null, fp32: 'F32', bf16: 'BF16', fp16: 'F16' }

/** Writes D; the same folder may be both. Errors: as opening the weights; a number that the new type cannot hold. */
export async function convert(given: Given<typeof convertOptions>, hooks: RunHooks = silent): Promise<ConvertResult> {
  const { model, outputDir, dtype, maxShardSize } = resolveOptions('convert', convertOptions, given)
  const maxShardBytes = parseSize(maxShardSize)
  const { folder, adapter } = await findModel(model, hubHooks(hooks))
  if (adapter) return mergeAdapter(model, folder, { outputDir, dtype, maxShardBytes }, hooks)
  const config = await readConfig(folder)
  const { entries } = await openWeights(folder)
  await ensureWritable(dirname(resolve(outputDir)))
  await expectReplaceable(outputDir)

  const reward = deepspeedChatNames(entries) === null ? null : rewardNames(entries, config.json['model_type'], folder)
  const to = DTYPES[dtype]!
  const tensors = convertedTensors(entries, to, reward?.names ?? null)
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  let files: string[] = []
  await atomicFolder(outputDir, async (temporary) => {
    const stored = to ?? [...entries.values()].map((e) => e.dtype).find(isFloatDtype) ?? 'F32'
    await writeFileAtomic(join(temporary, 'config.json'), savedConfig(config, stored, reward && { kind: 'scalar', architecture: reward.architecture }).toString())
    files = await writeSafetensorsFolder(temporary, shownTensors(tensors, bytes, hooks), { maxShardBytes })
    await copyTokenizer(folder, temporary)
    if (reward === null) await copyGenerationConfig(folder, temporary)
    await writeChecksums(temporary)
  })
  return { model: outputDir, tensors: tensors.length, bytes, files }
}

/** A LoRA adapter merged into its base, once: round(W0 + s B A) in the type asked for, or the base's own. */
async function mergeAdapter(idOrPath: string, base: string, o: { outputDir: string; dtype: string; maxShardBytes: number }, hooks: RunHooks): Promise<ConvertResult> {
  const stored = [...(await openWeights(base)).entries.values()].map((e) => e.dtype).find(isFloatDtype) ?? 'F32'
  const own = stored === 'BF16' ? 'bf16' : stored === 'F16' ? 'fp16' : 'fp32'
  await ensureWritable(dirname(resolve(o.outputDir)))
  await expectReplaceable(o.outputDir)
  using device = createDevice()
  using model = await openModel(device, idOrPath, { dtype: o.dtype === 'same' ? own : (o.dtype as DType) }, hubHooks(hooks))
  await model.save(o.outputDir, o.maxShardBytes)
  const { entries } = await openWeights(o.outputDir)
  const files = [...new Set([...entries.values()].map((e) => basename(e.file)))]
  return { model: o.outputDir, tensors: entries.size, bytes: [...entries.values()].reduce((sum, e) => sum + tensorBytes(e), 0), files }
}

/** Stock names of a DeepSpeed-Chat reward model, and the class that they are of. */
function rewardNames(entries: ReadonlyMap<string, StoredTensor>, type: unknown, folder: string): { names: Map<string, string>; architecture: string } {
  const family = familyOf(type)
  const names = family && deepspeedChatNames(entries, family.prefix)
  if (!names) return fail('convert', `a reward model of a family that is known, or stock names in ${folder}`, `the names of DeepSpeed-Chat and the model_type ${JSON.stringify(type)}`, 'the model_type of its backbone in config.json')
  return { names, architecture: family.architectures.scalar }
}

/** Each piece moves the progress line on; Ctrl-C ends the work between two pieces. */
function shownTensors(tensors: readonly TensorSource[], total: number, { progress, signal }: RunHooks): TensorSource[] {
  const megabytes = (n: number): number => Math.ceil(n / 1e6)
  let done = 0
  progress.start()
  async function* shown({ name, data }: TensorSource): AsyncGenerator<Uint8Array> {
    for await (const piece of data() as AsyncIterable<Uint8Array>) {
      if (signal?.aborted) throw new Interrupted(null)
      yield piece
      done += piece.byteLength
      progress.update('convert', megabytes(done), megabytes(total), ['MB', name])
    }
  }
  return tensors.map((tensor) => ({ ...tensor, data: () => shown(tensor) }))
}

/** "5GB" (powers of ten, as transformers) or "5GiB" -> bytes. */
function parseSize(text: string): number {
  const [, number, unit = 'B'] = /^(\d+(?:\.\d+)?) *([KMGT]?i?B)?$/i.exec(text) ?? []
  const power = ['B', 'KB', 'MB', 'GB', 'TB'].indexOf(unit.toUpperCase().replace('I', ''))
  const size = Math.floor(Number(number) * (/i/i.test(unit) ? 1024 : 1000) ** power)
  if (!(size >= 1)) throw new UsageError('--max-shard-size', 'a size in B, KB, MB, GB (or KiB, MiB, GiB)', JSON.stringify(text), '--max-shard-size 5GB')
  return size
}
