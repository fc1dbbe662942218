// One optimizer step of one model: gradients in, schedule, clipping, AdamW; non-finite steps are skipped and counted.
import { fail } from '../base/errors.js'
import { putBack, taken } from '../checkpoint/snapshot.js'
import type { Snapshot, Stored } from '../checkpoint/snapshot.js'
import type { Decoder } from '../model/decoder.js'
import { AdamW } from '../optim/adamw.js'
import { learningRateAt } from '../optim/schedules.js'
import type { ScheduleName } from '../optim/schedules.js'

export interface TrainerOptions {
  learningRate: number
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
  ) {
    const { adamBeta1: beta1, adamBeta2: beta2, adamEps: eps, weightDecay, maxGradNorm } = options
    this.optimizer = new AdamW(decoder.device, decoder.units, { beta1, beta2, eps, weightDecay, maxGradNorm })
  }

  /**
   * Zeroes the gradients, runs `backward` (which adds to them and gives the loss), updates.
   * Errors: too many steps in a row without a finite loss and gradient.
   */
  async step<R extends { loss: number }>(backward: () => Promise<R>): Promise<R & StepReport> {
    const { options, optimizer } = this
    const { lrSchedulerType: type, learningRate: baseLr, numWarmupSteps: warmupSteps } = options
    optimizer.zeroGrad()
    const result = await backward()
    const learningRate = learningRateAt({ type, baseLr, step: optimizer.step, warmupSteps, totalSteps: this.totalSteps })
    const finite = Number.isFinite(result.loss)
    const { gradNorm, applied } = finite ? await optimizer.update(learningRate) : { gradNorm: Number.NaN, applied: false }
    this.#count(applied, result.loss, gradNorm)
    return { ...result, gradNorm, learningRate, applied }
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
    return { numbers: { step: optimizer.step, skipped, inARow: this.#inARow }, tensors: optimizer.buffers.map(({ name, tensor }) => taken(name, tensor)) }
  }

  /** Goes on where the snapshot was taken, bit for bit. Error: it is of another model. */
  async restore(stored: Stored): Promise<void> {
    const { step, skipped, inARow } = stored.numbers as Record<'step' | 'skipped' | 'inARow', number>
    for (const { name, tensor } of this.optimizer.buffers) await putBack(stored, name, tensor)
    this.optimizer.resume(step)
    this.skipped = skipped
    this.#inARow = inARow
  }

  dispose(): void {
    this.optimizer.dispose()
  }
}
