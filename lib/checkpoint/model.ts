// A model is a folder in the Hugging Face layout: config.json, safetensors, tokenizer files. Load, make, save.
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import { atomicFolder, writeFileAtomic } from '../base/files.js'
import { Tokenizer } from '../data/tokenizer.js'
import { copyTokenizer, readSpecialIds } from '../data/tokenizerFiles.js'
import type { SpecialIds } from '../data/tokenizerFiles.js'
import { Decoder } from '../model/decoder.js'
import type { Family } from '../model/families/family.js'
import { readSpec } from '../model/families/registry.js'
import { initialize, initializeValueHead } from '../model/initialize.js'
import type { DecoderSpec, HeadKind } from '../model/spec.js'
import type { DType, NativeDevice } from '../tensor/device.js'
import { writeChecksums } from './checksums.js'
import type { ConfigText } from './configText.js'
import { writeGenerationConfig } from './generationConfig.js'
import { headOf, readConfig, savedConfig, storedHead } from './modelFolder.js'
import { writeSafetensorsFolder } from './shards.js'
import { storedAs } from './storedDtype.js'
import { openWeights } from './storedTensors.js'
import { loadWeights, weightSources, writeFloats } from './weights.js'

/** Of one file of weights, as transformers cuts them. */
export const maxShardBytes = 5e9

export interface LoadOptions {
  dtype: DType
  /** What the model will be used as; default: what its config.json says it is. */
  head?: HeadKind
  /** For a value head that the folder does not have. */
  seed?: number
  /** Rotary positions to prepare; the model's own limit if absent. */
  positions?: number
}

/** A decoder with its tokenizer and the config it came with. */
export class LoadedModel {
  /** The folder had no value weight (a language model, used as scalar): it was made up. */
  valueHeadIsFresh = false

  private constructor(
    readonly decoder: Decoder,
    readonly family: Family,
    readonly config: ConfigText,
    /** Null when the folder has none: the model then works on {input_ids}. */
    readonly tokenizer: Tokenizer | null,
    readonly special: SpecialIds,
    /** Where the tokenizer files are. */
    readonly folder: string,
  ) {}

  /** Reads a folder. Errors name the file and the weight. */
  static async load(device: NativeDevice, folder: string, options: LoadOptions): Promise<LoadedModel> {
    const config = await readConfig(folder)
    const weights = await openWeights(folder)
    const stored = storedHead(config.json, weights)
    const head = options.head ?? stored
    // a tied head would load as if it had been trained to speak
    if (head === 'logprob' && stored === 'scalar')
      fail('model', `a language model in ${folder}`, `a reward model (${headOf(config.json) === 'scalar' ? JSON.stringify(config.json['architectures']) : 'the weights have a value head'})`, 'the SFT or actor model; the folders of actor and critic may be swapped')
    const model = await LoadedModel.#make(device, config, join(folder, 'config.json'), folder, { ...options, head })
    try {
      const { freshValueHead } = await loadWeights(model.decoder, model.family, weights)
      if (freshValueHead) initializeValueHead(model.decoder, options.seed ?? 0, writeFloats)
      model.valueHeadIsFresh = freshValueHead
    } catch (error) {
      model.dispose()
      throw error
    }
    return model
  }

  /** Fresh weights from a config.json's numbers; the tokenizer is taken from `tokenizerFolder`. */
  static async init(device: NativeDevice, config: ConfigText, where: string, tokenizerFolder: string, seed: number, dtype: DType): Promise<LoadedModel> {
    const model = await LoadedModel.#make(device, config, where, tokenizerFolder, { dtype, head: headOf(config.json) })
    initialize(model.decoder, seed, writeFloats)
    return model
  }

  static async #make(device: NativeDevice, config: ConfigText, where: string, folder: string, options: LoadOptions & { head: HeadKind }): Promise<LoadedModel> {
    const { family, spec } = readSpec(config.json, where)
    const tokenizer = await tokenizerFor(folder, spec)
    const special = tokenizer ?? (await readSpecialIds(folder))
    const decoder = new Decoder(device, spec, options.dtype, options.head, options.positions)
    return new LoadedModel(decoder, family, config, tokenizer, special, folder)
  }

  /** Ids that end an answer. */
  get eosIds(): readonly number[] {
    return this.special.eosIds
  }

  /**
   * Writes the folder under a temporary name and swaps it in: a reader never sees half a model. Beside weights and config
   * it has the tokenizer's files, generation_config.json where it can generate, and the SHA-256 of each file.
   */
  async save(folder: string, shardBytes = maxShardBytes): Promise<void> {
    const { decoder, family, config } = this
    await atomicFolder(folder, async (temporary) => {
      const saved = savedConfig(config, storedAs[decoder.dtype], { kind: decoder.headKind, architecture: family.architectures[decoder.headKind] })
      await writeFileAtomic(join(temporary, 'config.json'), saved.toString())
      await writeSafetensorsFolder(temporary, weightSources(decoder, family), { maxShardBytes: shardBytes })
      await copyTokenizer(this.folder, temporary)
      if (decoder.headKind === 'logprob') await writeGenerationConfig(this.folder, temporary, this.special)
      await writeChecksums(temporary)
    })
  }

  dispose(): void {
    this.decoder.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** The tokenizer of a model folder, or null. Error: one with more ids than the model has. */
export async function tokenizerFor(folder: string, spec: DecoderSpec): Promise<Tokenizer | null> {
  const tokenizer = await Tokenizer.tryLoad(folder)
  if (tokenizer && tokenizer.vocabSize > spec.vocab)
    fail('model', `a tokenizer with at most ${spec.vocab} ids in ${folder}`, `${tokenizer.vocabSize}`, 'the tokenizer that belongs to this model, or a larger vocab_size')
  return tokenizer
}
