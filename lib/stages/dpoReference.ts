// The frozen reference of DPO: a model beside the policy, or the numbers it gave before training began.
import { fail } from '../base/errors.js'
import type { Run, RunHooks } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { RunCheckpoint } from '../checkpoint/runCheckpoint.js'
import { storedArray, takenArray } from '../checkpoint/snapshot.js'
import type { Snapshot } from '../checkpoint/snapshot.js'
import { packPairs } from '../data/packing.js'
import type { PackedBatch } from '../data/packing.js'
import type { PairRow } from '../data/records.js'
import { rowPieces } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { scoreAnswers } from '../engine/answerLogprobs.js'
import type { NativeDevice } from '../tensor/device.js'
import type { KeptBesides } from './loop.js'
import type { MachineOptions } from './shared.js'
import { loadModel, loadSpec } from './shared.js'

export interface ReferenceOptions extends MachineOptions {
  modelNameOrPath: string
  referenceModelNameOrPath: string | null
  referenceFree: boolean
  precomputeReference: boolean
  maxSeqLen: number
  perDeviceEvalBatchSize: number
}

export interface PairLists {
  train: RowList<PairRow>
  held: RowList<PairRow>
}

const lists = ['train', 'held'] as const

export class DpoReference implements KeptBesides, Disposable {
  #model: LoadedModel | null = null
  /** With --precompute-reference: two numbers for each pair, the chosen answer's first. */
  #known: Record<keyof PairLists, Float64Array> | null = null

  constructor(
    private readonly run: Run,
    private readonly device: NativeDevice,
    readonly rows: PairLists,
    private readonly options: ReferenceOptions,
  ) {}

  /** Errors: a reference with another vocabulary, or with fewer positions than rows may have. */
  static async check({ modelNameOrPath, referenceModelNameOrPath: path, maxSeqLen }: ReferenceOptions, hooks: RunHooks): Promise<void> {
    if (path === null) return
    const [policy, reference] = [(await loadSpec(modelNameOrPath, hooks)).spec, (await loadSpec(path, hooks)).spec]
    if (policy.vocab !== reference.vocab) fail('dpo', `a reference with the model's vocabulary (${policy.vocab})`, `${reference.vocab} in ${path}`, 'the model that training starts from, or one with the same tokenizer')
    const longest = Math.min(maxSeqLen, policy.maxPositions)
    if (reference.maxPositions < longest) fail('dpo', `a reference with ${longest} positions, as the longest row may have`, `${reference.maxPositions} in ${path}`, `--max-seq-len ${reference.maxPositions}`)
  }

  /** Loads the reference; with --precompute-reference asks it about every row and lets it go, or takes up what a checkpoint holds. */
  async begin(resumed: RunCheckpoint | null): Promise<void> {
    const { referenceFree, precomputeReference } = this.options
    if (referenceFree) return
    if (precomputeReference && resumed && (await this.#restore(resumed))) return
    this.#model = await loadModel(this.device, this.#path, this.options, this.run.hooks, { head: 'logprob', positions: this.options.maxSeqLen })
    if (!precomputeReference) return
    this.#known = { train: await this.#askAll('train'), held: await this.#askAll('held') }
    this.#model.dispose()
    this.#model = null
  }

  /** Log-probs [2n] of the answers in `batch`, which packs the pairs `indices` of a list: those of chosen answers first. */
  async logprobs(list: keyof PairLists, indices: readonly number[], batch: PackedBatch): Promise<Float64Array> {
    const known = this.#known?.[list]
    if (known) return Float64Array.from([...indices.map((i) => known[2 * i]!), ...indices.map((i) => known[2 * i + 1]!)])
    return this.#model ? scoreAnswers(this.#model.decoder, batch) : new Float64Array(2 * indices.length)
  }

  parts(): Record<string, Snapshot> {
    const known = this.#known
    return known ? { reference: { numbers: { path: this.#path }, tensors: lists.map((list) => takenArray(list, known[list])) } } : {}
  }

  get #path(): string {
    return this.options.referenceModelNameOrPath ?? this.options.modelNameOrPath
  }

  /** False where the checkpoint has no such numbers, or those of another reference or of other rows (--resume changed). */
  async #restore(checkpoint: RunCheckpoint): Promise<boolean> {
    if (!('reference' in checkpoint.numbers)) return false
    const stored = await checkpoint.part('reference')
    const [train, held] = await Promise.all(lists.map((list) => storedArray(stored, list, Float64Array)))
    if (stored.numbers['path'] !== this.#path || train!.length !== 2 * this.rows.train.length || held!.length !== 2 * this.rows.held.length) return false
    this.#known = { train: train!, held: held! }
    return true
  }

  /** Bit-equal to what it would say during training: a row's log-probs do not depend on its neighbours (contract 1). */
  async #askAll(list: keyof PairLists): Promise<Float64Array> {
    const { run, rows, options } = this
    const known = new Float64Array(2 * rows[list].length)
    let done = 0
    run.progress.start()
    for (const part of rowPieces(rows[list], options.perDeviceEvalBatchSize)) {
      run.throwIfStopped(null)
      const answers = await scoreAnswers(this.#model!.decoder, packPairs(part))
      for (const i of part.keys()) known.set([answers[i]!, answers[part.length + i]!], 2 * (done + i))
      done += part.length
      run.progress.update(`dpo, reference of ${list === 'train' ? 'training' : 'held-out'} pairs`, done, rows[list].length, [])
    }
    return known
  }

  [Symbol.dispose](): void {
    this.#model?.dispose()
    this.#model = null
  }
}
