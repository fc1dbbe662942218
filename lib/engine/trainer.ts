// One optimizer step of one model: gradients in, schedule, clipping, AdamW; non-finite steps are skipped and counted.
import { fail } from '../base/errors.js'
import { randomPurpose, seedAt, streamNumber } from '../base/random.js'
import { expectUnchanged, putBack, taken } from '../checkpoint/snapshot.js'
import type { Snapshot, Stored } from '../checkpoint/snapshot.js'
import type { Decoder } from '../model/decoder.js'
import { AdamW } from '../optim/adamw.js'
import { learningRateAt } from '../optim/schedules.js'
import type { ScheduleName } from '../optim/schedules.js'
import type { Tensor } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'

export interface TrainerOptions {
  learningRate: number
  /** Of LoRA's factors; as the others if absent. */
  loraLearningRate?: number
  weightDecay: number
  adamBeta1: number
  adamBeta2: number
  adamEps: number
  maxGradNorm: number
  lrSchedulerType: ScheduleName
  numWarmupSteps: number
  maxSkippedSteps: number
}

export interface StepReport {
  gradNorm: number
  learningRate: number
  applied: boolean
}

export class Trainer {
  readonly optimizer: AdamW
  /** Skipped steps, all and in a row. */
  skipped = 0
  #inARow = 0

  constructor(
    readonly decoder: Decoder,
    readonly options: TrainerOptions,
    /** Applied steps the schedule is made for. */
    readonly totalSteps: number,
    /** Share to drop in passes of training; masks follow from the seed and the step. */
    readonly dropout: { p: number; seed: number } = { p: 0, seed: 0 },
  ) {
    const { adamBeta1: beta1, adamBeta2: beta2, adamEps: eps, weightDecay, maxGradNorm } = options
    this.optimizer = new AdamW(decoder.device, decoder.trainables, { beta1, beta2, eps, weightDecay, maxGradNorm })
  }

  /**
   * Zeroes the gradients, runs `backward` (which adds to them and gives the loss), updates.
   * Errors: too many steps in a row without a finite loss and gradient.
   */
  async step<R extends { loss: number }>(backward: () => Promise<R>): Promise<R & StepReport> {
    const { options, optimizer, decoder } = this
    optimizer.zeroGrad()
    decoder.lora?.drop(optimizer.step + this.skipped)
    const result = await this.#dropping(backward)
    const learningRate = this.#rate(options.learningRate)
    const finite = Number.isFinite(result.loss)
    const { gradNorm, applied } = finite ? await optimizer.update(learningRate, this.#rate(options.loraLearningRate ?? options.learningRate)) : { gradNorm: Number.NaN, applied: false }
    decoder.lora?.merge()
    this.#count(applied, result.loss, gradNorm)
    return { ...result, gradNorm, learningRate, applied }
  }

  /** The schedule's learning rate of the next step, from a peak. */
  #rate(baseLr: number): number {
    const { lrSchedulerType: type, numWarmupSteps: warmupSteps } = this.options
    return learningRateAt({ type, baseLr, step: this.optimizer.step, warmupSteps, totalSteps: this.totalSteps })
  }

  /** Of the steps so far, skipped ones too: actor and critic draw from streams of their own. */
  async #dropping<R>(backward: () => Promise<R>): Promise<R> {
    const { decoder, dropout, optimizer } = this
    const stream = streamNumber(randomPurpose.dropout, decoder.headKind === 'scalar' ? 1 : 0)
    decoder.dropout = dropout.p > 0 ? { p: dropout.p, seed: seedAt(dropout.seed, stream, optimizer.step + this.skipped) } : null
    try {
      return await backward()
    } finally {
      decoder.dropout = null
    }
  }

  #count(applied: boolean, loss: number, gradNorm: number): void {
    this.#inARow = applied ? 0 : this.#inARow + 1
    if (applied) return
    this.skipped++
    if (this.#inARow >= this.options.maxSkippedSteps)
      fail('training', 'a finite loss and gradient', `loss ${loss}, gradient norm ${gradNorm}, ${this.#inARow} steps in a row`, 'a lower learning rate or a smaller --max-grad-norm')
  }

  /** The model and its optimizer after the steps enqueued so far; see restore. */
  snapshot(): Snapshot {
    const { skipped, optimizer } = this
    using scope = new Scope()
    const kept = [...optimizer.buffers, ...this.#base(scope)]
    return { numbers: { step: optimizer.step, skipped, inARow: this.#inARow }, tensors: kept.map(({ name, tensor }) => taken(name, tensor)) }
  }

  /** Goes on where the snapshot was taken, bit for bit. Error: it is of another model. */
  async restore(stored: Stored): Promise<void> {
    const { step, skipped, inARow } = stored.numbers as Record<'step' | 'skipped' | 'inARow', number>
    using scope = new Scope()
    for (const { name, tensor } of this.#base(scope)) await expectUnchanged(stored, name, tensor)
    for (const { name, tensor } of this.optimizer.buffers) await putBack(stored, name, tensor)
    this.optimizer.resume(step)
    this.decoder.lora?.merge()
    this.skipped = skipped
    this.#inARow = inARow
  }

  /** What LoRA's factors stand beside. */
  #base(scope: Scope): { name: string; tensor: Tensor }[] {
    const heads = this.decoder.lora?.baseHeads ?? []
    for (const { tensor } of heads) scope.own(tensor)
    return heads
  }

  dispose(): void {
    this.optimizer.dispose()
  }
}
