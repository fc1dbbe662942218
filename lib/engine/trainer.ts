// One optimizer step of one model: gradients in, schedule, clipping, AdamW; non-finite steps are skipped and counted, and in
// fp16 lower the loss scale.
import { fail } from '../base/errors.js'
import { randomPurpose, seedAt, streamNumber } from '../base/random.js'
import { expectUnchanged, putBack, taken } from '../checkpoint/snapshot.js'
import type { Snapshot, Stored } from '../checkpoint/snapshot.js'
import type { Decoder } from '../model/decoder.js'
import { AdamW } from '../optim/adamw.js'
import type { StepResult } from '../optim/adamw.js'
import { LossScale } from '../optim/lossScale.js'
import type { LossScaleState } from '../optim/lossScale.js'
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
  /** Of this step's gradients; null without fp16. */
  lossScale: number | null
}

export class Trainer {
  readonly optimizer: AdamW
  /** Null without fp16. */
  readonly lossScale: LossScale | null
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
    this.lossScale = decoder.dtype === 'fp16' ? new LossScale() : null
  }

  /**
   * Zeroes the gradients, runs `backward` (which adds to them and gives the loss), updates.
   * Errors: too many steps in a row without a finite loss and gradient.
   */
  async step<R extends { loss: number }>(backward: () => Promise<R>): Promise<R & StepReport> {
    return this.apply(await this.gradients(backward))
  }

  /** The first half of a step: zeroes the gradients and runs `backward`, with dropout and under the loss scale. */
  async gradients<R>(backward: () => Promise<R>): Promise<R> {
    const { decoder, dropout, optimizer } = this
    // by the steps so far, skipped ones too; actor and critic draw from streams of their own
    const stream = streamNumber(randomPurpose.dropout, decoder.headKind === 'scalar' ? 1 : 0)
    decoder.dropout = dropout.p > 0 ? { p: dropout.p, seed: seedAt(dropout.seed, stream, optimizer.step + this.skipped) } : null
    decoder.lossScale = this.lossScale?.scale ?? 1
    decoder.lora?.drop(optimizer.step + this.skipped)
    optimizer.zeroGrad()
    try {
      return await backward()
    } finally {
      decoder.dropout = null
      decoder.lossScale = 1
    }
  }

  /** Whether the loss and the gradients at hand are finite. */
  async finite({ loss }: { loss: number }): Promise<boolean> {
    return Number.isFinite(loss) && (await this.optimizer.norm(this.lossScale?.scale ?? 1)).finite
  }

  /** The second half: the update. `held`: another model's gradients are not finite, so that this one must not move either. */
  async apply<R extends { loss: number }>(result: R, held = false): Promise<R & StepReport> {
    const { options, optimizer } = this
    const learningRate = this.#rate(options.learningRate)
    const loraLr = this.#rate(options.loraLearningRate ?? options.learningRate)
    const lossScale = this.lossScale?.scale ?? null
    const update = (): Promise<StepResult> => (held ? optimizer.norm(lossScale ?? 1) : optimizer.update(learningRate, { lossScale: lossScale ?? 1, loraLr }))
    const { gradNorm, finite } = Number.isFinite(result.loss) ? await update() : { gradNorm: Number.NaN, finite: false }
    this.decoder.lora?.merge()
    const applied = finite && !held
    if (!applied) this.skipped++
    if (!finite) this.#overflow(result.loss, gradNorm)
    else if (applied) {
      this.#inARow = 0
      this.lossScale?.grow()
    }
    return { ...result, gradNorm, learningRate, applied, lossScale }
  }

  /** The schedule's learning rate of the next step, from a peak. */
  #rate(baseLr: number): number {
    const { lrSchedulerType: type, numWarmupSteps: warmupSteps } = this.options
    return learningRateAt({ type, baseLr, step: this.optimizer.step, warmupSteps, totalSteps: this.totalSteps })
  }

  /** While the loss scale can fall, gradients that are not finite say no more than that it was too large. */
  #overflow(loss: number, gradNorm: number): void {
    const shrunk = this.lossScale?.shrink() ?? false
    if (shrunk && Number.isFinite(loss)) return
    this.#inARow++
    if (this.#inARow >= this.options.maxSkippedSteps)
      fail('training', 'a finite loss and gradient', `loss ${loss}, gradient norm ${gradNorm}, ${this.#inARow} steps in a row`, `a lower learning rate or a smaller --max-grad-norm${this.lossScale ? ', or --dtype bf16' : ''}`)
  }

  /** The model and its optimizer after the steps enqueued so far; see restore. */
  snapshot(): Snapshot {
    const { skipped, optimizer } = this
    using scope = new Scope()
    const kept = [...optimizer.buffers, ...this.#base(scope)]
    return { numbers: { step: optimizer.step, skipped, inARow: this.#inARow, ...(this.lossScale && { lossScale: this.lossScale.state }) }, tensors: kept.map(({ name, tensor }) => taken(name, tensor)) }
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
    const scale = stored.numbers['lossScale'] as LossScaleState | undefined
    if (scale) this.lossScale?.restore(scale)
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
