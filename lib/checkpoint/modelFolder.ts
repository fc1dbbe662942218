// A model folder in the Hugging Face layout: its config.json, what it holds, and whether another may take its place.
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import { failOnFile, pathExists } from '../base/files.js'
import { tokenizerFileNames } from '../data/tokenizerFiles.js'
import { isAdapterFile } from '../hub/select.js'
import type { ConfigJson } from '../model/config.js'
import type { HeadKind } from '../model/spec.js'
import { checksumsName } from './checksums.js'
import { ConfigText } from './configText.js'
import { deepspeedChatNames } from './deepspeedChatNames.js'
import { generationConfigName } from './generationConfig.js'
import type { StoredDtype } from './storedDtype.js'
import { weightFileName } from './storedTensors.js'
import type { StoredWeights } from './storedTensors.js'

export async function readConfig(folder: string): Promise<ConfigText> {
  const path = join(folder, 'config.json')
  if (!(await pathExists(path))) fail('model', `a model folder with config.json at ${folder}`, (await pathExists(folder)) ? 'a folder without one' : 'no such folder', 'a folder in the Hugging Face layout')
  return readConfigFile(path)
}

export async function readConfigFile(file: string): Promise<ConfigText> {
  return ConfigText.parse(await readFile(file, 'utf8').catch((error: unknown) => failOnFile(error, `to read ${file}`)), file)
}

/** What the folder holds: DeepSpeed-Chat leaves the language model's config.json beside the weights of its reward models. */
export function storedHead(config: ConfigJson, { entries }: StoredWeights): HeadKind {
  return deepspeedChatNames(entries) === null ? headOf(config) : 'scalar'
}

export function headOf(config: ConfigJson): HeadKind {
  const names = Array.isArray(config['architectures']) ? (config['architectures'] as unknown[]) : []
  return names.some((n) => typeof n === 'string' && n.endsWith('ForSequenceClassification')) ? 'scalar' : 'logprob'
}

/** How config.json names the types of floats. */
const torchDtypes: Partial<Record<StoredDtype, string>> = { F64: 'float64', F32: 'float32', BF16: 'bfloat16', F16: 'float16' }

/** The config of weights in this type; with `head`, of a model of that class. */
export function savedConfig(config: ConfigText, dtype: StoredDtype, head: { kind: HeadKind; architecture: string } | null): ConfigText {
  const old = config.json['torch_dtype'] !== undefined && config.json['dtype'] === undefined
  const typed = config.with({ torch_dtype: undefined, dtype: undefined, [old ? 'torch_dtype' : 'dtype']: torchDtypes[dtype] })
  if (head === null) return typed
  // one label makes transformers build a scalar head
  const labels = head.kind === 'scalar' ? { id2label: { '0': 'LABEL_0' }, label2id: { LABEL_0: 0 } } : { id2label: undefined, label2id: undefined }
  return typed.with({ num_labels: undefined, ...labels, architectures: [head.architecture] })
}

/** A saved model takes the folder's place, and what was there goes: only a model may go. */
export async function expectReplaceable(folder: string): Promise<void> {
  if (!(await pathExists(folder))) return
  const expected = `a new folder, an empty one or an older model at ${folder}`
  if (!(await stat(folder)).isDirectory()) fail('--output-dir', expected, 'a file', 'another name')
  const other = (await readdir(folder)).find((name) => !isModelFile(name))
  if (other !== undefined) fail('--output-dir', expected, `a folder with ${other} in it`, 'another name')
}

const isModelFile = (name: string): boolean =>
  ['config.json', generationConfigName, checksumsName].includes(name) || weightFileName.test(name) || isAdapterFile(name) || (tokenizerFileNames as readonly string[]).includes(name)
