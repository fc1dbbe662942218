// PPO-ptx (Ouyang et al. 2022, eq. 2): texts whose next-token loss is mixed into the actor's, so that it does not forget.
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import { fail } from '../base/errors.js'
import { pathExists } from '../base/files.js'
import type { Run, RunHooks } from '../base/run.js'
import { epochOrder } from '../data/epochs.js'
import { packByTokens } from '../data/packing.js'
import type { TokenRow } from '../data/records.js'
import type { RowList } from '../data/rowList.js'
import { openStageData } from '../data/stageData.js'
import { textKind } from '../data/tokenize.js'
import type { Tokenizer } from '../data/tokenizer.js'
import { resolveDataset } from '../hub/resolve.js'
import type { Decoder } from '../model/decoder.js'
import { readRows } from './rows.js'
import { hubHooks, pieces } from './shared.js'

export interface PretrainingMixOptions {
  /** Null: nothing is mixed in. */
  unsupervisedDatasetName: string | null
  unsupervisedDatasetConfigName: string | null
  maxPromptSeqLen: number
  maxAnswerSeqLen: number
  perDeviceTrainingBatchSize: number
  gradientAccumulationSteps: number
  dataOutputPath: string | null
  threads: number
  seed: number
}

/** Packs of texts, as many for a step of the actor as it has rollouts; each epoch has an order of its own. */
export class PretrainingMix implements Disposable {
  #order: { epoch: number; rows: Int32Array } | null = null

  private constructor(
    private readonly rows: RowList<TokenRow>,
    private readonly packs: readonly (readonly number[] | Int32Array)[],
    private readonly o: PretrainingMixOptions,
  ) {}

  /** The texts, found and not yet read; null without --unsupervised-dataset-name. Errors: there are none. */
  static async find(o: Pick<PretrainingMixOptions, 'unsupervisedDatasetName' | 'unsupervisedDatasetConfigName' | 'seed'>, hooks: RunHooks) {
    if (o.unsupervisedDatasetName === null) return null
    const path = await configFolder(hooks, o.unsupervisedDatasetName, o.unsupervisedDatasetConfigName)
    const asked = { dataPath: [path], dataWeights: null, dataSplit: null, columns: null, evalDataPath: ['none'], evalFraction: 0, seed: o.seed }
    return { asked, data: await openStageData(asked, 1, hubHooks(hooks)) }
  }

  /** Null without --unsupervised-dataset-name. A pack holds as many tokens as the longest prompt and answer together. Errors: as reading data. */
  static async open(run: Run, { decoder, tokenizer }: { decoder: Decoder; tokenizer: Tokenizer | null }, o: PretrainingMixOptions): Promise<PretrainingMix | null> {
    const texts = await PretrainingMix.find(o, run.hooks)
    if (texts === null) return null
    const { asked, data } = texts
    const maxSeqLen = Math.min(o.maxPromptSeqLen + o.maxAnswerSeqLen, decoder.maxPositions)
    const limits = { tokenizer, vocabSize: decoder.spec.vocab, maxSeqLen }
    const { train, held } = await readRows(run, data, textKind, limits, { ...asked, dataOutputPath: o.dataOutputPath, threads: o.threads }, `${run.stage}, texts mixed in`)
    held.dispose()
    return new PretrainingMix(train, packByTokens(train, maxSeqLen), o)
  }

  /** How many texts there are. */
  get size(): number {
    return this.rows.length
  }

  /** The rows of each micro-batch of a step (from 1). They follow from the seed and the step alone. */
  batches(step: number): TokenRow[][] {
    const size = this.o.perDeviceTrainingBatchSize
    const count = size * this.o.gradientAccumulationSteps
    const chosen = Array.from({ length: count }, (_, i) => this.#pack((step - 1) * count + i))
    return pieces(chosen, size).map((packs) => packs.flat())
  }

  #pack(place: number): TokenRow[] {
    const epoch = Math.floor(place / this.packs.length)
    if (this.#order?.epoch !== epoch) this.#order = { epoch, rows: epochOrder(this.packs.length, this.o.seed, epoch) }
    return Array.from(this.packs[this.#order.rows[place % this.packs.length]!]!, (row) => this.rows.at(row))
  }

  [Symbol.dispose](): void {
    this.rows.dispose()
  }
}

/** The part of a data set that has a name of its own, a folder in it: "wikitext-2-raw-v1" of wikitext. Error: there is none. */
async function configFolder(hooks: RunHooks, name: string, config: string | null): Promise<string> {
  if (config === null) return name
  const folder = await resolveDataset(name, hubHooks(hooks))
  const inside = join(folder, config)
  if (await pathExists(inside)) return inside
  const others = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  return fail('--unsupervised-dataset-config-name', `a folder of ${name}${others.length > 0 ? `: ${others.join(', ')}` : ', which has none'}`, `"${config}"`, others.length > 0 ? 'one of these' : 'leaving it out')
}
