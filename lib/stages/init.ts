// `init`: a model folder with fresh weights from a config.json's numbers.
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'

import { fail } from '../base/errors.js'
import { ensureWritable, pathExists } from '../base/files.js'
import type { Given } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { LoadedModel } from '../checkpoint/model.js'
import type { ConfigText } from '../checkpoint/configText.js'
import { expectReplaceable, readConfig, readConfigFile } from '../checkpoint/modelFolder.js'
import { Tokenizer } from '../data/tokenizer.js'
import { parseHubId, resolveModel } from '../hub/resolve.js'
import { createDevice } from '../tensor/device.js'
import type { DType } from '../tensor/device.js'
import { hubHooks, silent } from './shared.js'
import { initOptions } from './useOptions.js'

export interface InitResult {
  model: string
  family: string
  parameters: number
  vocab: number
}

/** Makes a model with fresh weights. Errors: a config that is not understood, a tokenizer with more ids than the vocabulary. */
export async function init(given: Given<typeof initOptions>, hooks: RunHooks = silent): Promise<InitResult> {
  const { config: path, tokenizer, outputDir, seed, dtype, threads } = resolveOptions('init', initOptions, given)
  const { config, file } = await configAt(path, hooks)
  const folder = tokenizer ?? dirname(file)
  const known = tokenizer === null ? await Tokenizer.tryLoad(folder) : await Tokenizer.load(tokenizer)
  await ensureWritable(dirname(resolve(outputDir)))
  await expectReplaceable(outputDir)
  using device = createDevice({ threads })
  using model = await LoadedModel.init(device, withSpecialIds(config, known), file, folder, seed, dtype as DType)
  await model.save(outputDir)
  return { model: outputDir, family: model.family.type, parameters: model.decoder.parameterCount, vocab: model.decoder.spec.vocab }
}

async function configAt(idOrPath: string, hooks: RunHooks): Promise<{ config: ConfigText; file: string }> {
  const path = parseHubId(idOrPath) === null ? idOrPath : await resolveModel(idOrPath, { ...hubHooks(hooks), weights: false })
  if (!(await pathExists(path))) fail('--config', `a config.json at ${path}`, 'no such file', 'checking the path')
  if ((await stat(path)).isDirectory()) return { config: await readConfig(path), file: join(path, 'config.json') }
  return { config: await readConfigFile(path), file: path }
}

/** Ids that the config does not name are the tokenizer's: a family's own defaults would name other tokens. */
function withSpecialIds(config: ConfigText, tokenizer: Tokenizer | null): ConfigText {
  if (!tokenizer) return config
  const ids = { bos_token_id: tokenizer.bosId, eos_token_id: tokenizer.eosId, pad_token_id: tokenizer.padId }
  return config.with(Object.fromEntries(Object.entries(ids).filter(([name]) => !(name in config.json))))
}
