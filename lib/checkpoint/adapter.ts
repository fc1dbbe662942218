// LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors (or .bin), with a pair of factors
// "base_model.model.<module>.lora_A.weight" [r, in] and "...lora_B.weight" [out, r] for each module.
// Source: huggingface/peft, src/peft/utils/save_and_load.py and tuners/lora/config.py.
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import { atomicFolder, pathExists, readJson, writeJson } from '../base/files.js'
import { isJsonObject } from '../base/json.js'
import type { Decoder } from '../model/decoder.js'
import type { Family } from '../model/families/family.js'
import { placeOf } from '../model/families/registry.js'
import { Lora, linearModules } from '../model/lora.js'
import type { LoraModule, LoraOptions } from '../model/lora.js'
import { readFloats } from '../tensor/device.js'
import { writeChecksums } from './checksums.js'
import type { LoadedModel } from './model.js'
import { SafetensorsFile } from './safetensors.js'
import { tensorOf, writeSafetensors } from './safetensorsWriter.js'
import { isFloatDtype, toFloat32 } from './storedDtype.js'
import type { StoredTensor, WeightFile } from './storedTensors.js'
import { readTensor } from './tensorFiles.js'
import { openTorchBin } from './torchBin.js'
import { spellings, writeFloats } from './weights.js'

const adapterConfigName = 'adapter_config.json'
const weightsName = 'adapter_model.safetensors'
const legacyWeightsName = 'adapter_model.bin'

const stem = 'base_model.model.'

/** What adapter_config.json says. */
export interface Adapter {
  folder: string
  /** Path or hub id of the model it belongs to. */
  base: string
  dim: number
  alpha: number
  dropout: number
  scalar: boolean
}

/** Null for a folder that holds no adapter. Errors: a kind of adapter this version does not know. */
export async function readAdapter(folder: string): Promise<Adapter | null> {
  const file = join(folder, adapterConfigName)
  if (!(await pathExists(file))) return null
  const json = await readJson(file)
  const config = isJsonObject(json) ? json : {}
  const only = (key: string, what: string, ok: (value: unknown) => boolean): void => {
    if (!ok(config[key])) fail('adapter', `${what} in ${file}`, `${key} ${JSON.stringify(config[key])}`, 'to merge it with PEFT (merge_and_unload) and to give the merged model')
  }
  const empty = (v: unknown): boolean => v === undefined || v === null || v === false || (typeof v === 'object' && Object.keys(v).length === 0)
  only('peft_type', 'a LoRA adapter', (v) => v === 'LORA')
  only('r', 'a rank', (v) => Number.isSafeInteger(v) && (v as number) > 0)
  only('lora_alpha', 'a number', (v) => typeof v === 'number' && Number.isFinite(v))
  only('bias', 'no biases of its own', (v) => v === undefined || v === 'none')
  for (const key of ['use_dora', 'rank_pattern', 'alpha_pattern', 'lora_bias', 'trainable_token_indices']) only(key, 'one plain pair of factors for each module', empty)
  only('base_model_name_or_path', 'the name of its base model', (v) => typeof v === 'string' && v !== '')
  const dim = config['r'] as number
  return {
    folder,
    base: config['base_model_name_or_path'] as string,
    dim,
    alpha: (config['lora_alpha'] as number) * (config['use_rslora'] === true ? Math.sqrt(dim) : 1),
    dropout: typeof config['lora_dropout'] === 'number' ? config['lora_dropout'] : 0,
    scalar: config['task_type'] === 'SEQ_CLS',
  }
}

async function openAdapterWeights(folder: string): Promise<WeightFile> {
  const [file, legacy] = [join(folder, weightsName), join(folder, legacyWeightsName)]
  if (await pathExists(file)) return SafetensorsFile.open(file)
  if (await pathExists(legacy)) return openTorchBin(legacy)
  return fail('adapter', `${weightsName} or ${legacyWeightsName} in ${folder}`, 'neither', 'to copy or download the folder again')
}

/**
 * Puts an adapter's factors on the decoder of its base, which then holds the merged weights. `options` are those to train
 * on with. Errors: tensors that are missing, surplus, misshapen, not finite, or of modules the model does not have.
 */
export async function loadAdapter(model: LoadedModel, adapter: Adapter, options: Omit<LoraOptions, 'dim' | 'alpha'>): Promise<void> {
  const { decoder, family } = model
  const { folder, dim, alpha } = adapter
  const { entries } = await openAdapterWeights(folder)
  const left = new Map(Array.from(entries, ([name, entry]) => [name.startsWith(stem) ? name.slice(stem.length) : name, entry]))
  const take = async (name: string, shape: readonly number[]): Promise<Float32Array> => {
    const found = spellings(name, family, null).find((n) => left.has(n))
    if (found === undefined) return fail('adapter', `the tensor ${name} in ${folder}`, 'none', 'to copy or download the folder again')
    const values = await floatsOf(left.get(found)!, shape)
    left.delete(found)
    return values
  }
  const has = ({ name }: LoraModule): boolean => spellings(name, family, null).some((n) => left.has(`${n}.lora_A.weight`))
  const modules = linearModules(decoder, family).filter(has)
  const lora = new Lora(decoder, modules, { ...options, dim, alpha })
  decoder.lora = lora
  lora.start()
  for (const module of modules) {
    const a = await take(`${module.name}.lora_A.weight`, [dim, module.inWidth])
    lora.write(module, { a, b: await take(`${module.name}.lora_B.weight`, [module.outWidth, dim]) })
  }
  lora.merge()
  if (decoder.headKind === 'scalar') {
    const { name, shape } = valuePlace(decoder, family)
    if (left.has(name)) {
      const view = decoder.head.view('value.weight')
      writeFloats(view, await take(name, shape))
      view.dispose()
      model.valueHeadIsFresh = false
    }
  }
  if (left.size > 0) fail('adapter', `factors of linear modules in the layers of ${adapter.base} in ${folder}`, [...left.keys()].slice(0, 3).join(', ') + (left.size > 3 ? ` and ${left.size - 3} more` : ''), 'the base model that the adapter was trained on, or to merge it with PEFT')
}

async function floatsOf(entry: StoredTensor, shape: readonly number[]): Promise<Float32Array> {
  const { name, file, dtype } = entry
  if (entry.shape.join() !== shape.join()) fail('adapter', `${name} as [${shape.join(', ')}] in ${file}`, `[${entry.shape.join(', ')}]`, 'the base model that the adapter was trained on')
  if (!isFloatDtype(dtype)) fail('adapter', `floats for ${name} in ${file}`, dtype, 'an adapter in fp32, bf16 or fp16')
  const values = toFloat32(await readTensor(entry), dtype)
  if (values.some((v) => !Number.isFinite(v))) fail('adapter', `finite numbers for ${name} in ${file}`, 'one that is not', 'an intact adapter')
  return values
}

const valuePlace = (decoder: Decoder, family: Family) => placeOf(family, decoder.spec, 'head.value.weight', decoder.head.slot('value.weight').shape)

/** Ends LoRA on a decoder: the merged weights are its weights now. */
export function bakeLora(decoder: Decoder): void {
  decoder.lora?.dispose()
  decoder.lora = null
}

/** Writes the factors of a model as an adapter of `base`; they are the whole of what was trained where nothing else was. */
export async function saveAdapter({ decoder, family }: LoadedModel, base: string, folder: string): Promise<void> {
  const lora = decoder.lora!
  const { dim, alpha, dropout } = lora.options
  const scalar = decoder.headKind === 'scalar'
  await atomicFolder(folder, async (temporary) => {
    const tensors = []
    for (const module of lora.modules) {
      const { a, b } = await lora.read(module)
      tensors.push(tensorOf(`${stem}${module.name}.lora_A.weight`, 'F32', [dim, module.inWidth], a), tensorOf(`${stem}${module.name}.lora_B.weight`, 'F32', [module.outWidth, dim], b))
    }
    if (scalar) {
      const { name, shape } = valuePlace(decoder, family)
      const view = decoder.head.view('value.weight')
      tensors.push(tensorOf(stem + name, 'F32', shape, await readFloats(view)))
      view.dispose()
    }
    await writeSafetensors(join(temporary, weightsName), tensors)
    await writeJson(join(temporary, adapterConfigName), {
      peft_type: 'LORA',
      task_type: scalar ? 'SEQ_CLS' : 'CAUSAL_LM',
      base_model_name_or_path: base,
      r: dim,
      lora_alpha: alpha,
      lora_dropout: dropout,
      bias: 'none',
      fan_in_fan_out: lora.modules.some((m) => m.transposed),
      target_modules: targets(lora.modules, linearModules(decoder, family)),
      modules_to_save: scalar ? ['score'] : null,
      inference_mode: true,
    })
    await writeChecksums(temporary)
  })
}

/** Last parts of names ("q_proj") where these say the same, whole names otherwise: PEFT takes both. */
function targets(chosen: readonly LoraModule[], all: readonly LoraModule[]): string[] {
  const last = (m: LoraModule): string => m.name.split('.').at(-1)!
  const short = new Set(chosen.map(last))
  return all.filter((m) => short.has(last(m))).length === chosen.length ? [...short] : chosen.map((m) => m.name)
}
