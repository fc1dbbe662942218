// AdamW over flat units: fp32 master weights, decoupled decay, global-norm clipping, non-finite gradients skipped.
import { native } from '../binding/native.js'
import type { Trainable } from '../model/unit.js'
import type { NativeDevice, Tensor } from '../tensor/device.js'

export interface AdamWOptions {
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** Global L2 norm to clip to; 0 = off. */
  maxGradNorm: number
}

interface UnitState {
  unit: Trainable
  /** fp32 master weights; the unit's own buffer when it is fp32. */
  master: Tensor
  m: Tensor
  v: Tensor
}

export interface StepResult {
  /** Before clipping. */
  gradNorm: number
  /** False: the gradients were not, and an update changed nothing. */
  finite: boolean
}

export class AdamW {
  #states: UnitState[]
  /** Applied steps so far. */
  #step = 0

  constructor(
    readonly device: NativeDevice,
    units: readonly Trainable[],
    readonly options: AdamWOptions,
  ) {
    const make = (shape: number[], zeroed: boolean): Tensor => device.alloc({ dtype: 'fp32', shape, category: 'optimizer', zeroed })
    this.#states = units
      .filter((unit) => unit.layout.size > 0)
      .map((unit) => {
        unit.trainable()
        const shape = [unit.layout.size]
        let master = unit.params
        if (unit.dtype !== 'fp32') {
          master = make(shape, false)
          native().cast(device, { in: unit.params, out: master })
        }
        return { unit, master, m: make(shape, true), v: make(shape, true) }
      })
  }

  get step(): number {
    return this.#step
  }

  /** fp32 weights of every unit. */
  get masters(): { unit: Trainable; master: Tensor }[] {
    return this.#states.map(({ unit, master }) => ({ unit, master }))
  }

  /** What the next update depends on besides the gradients: fp32 master weights and moments of every unit. */
  get buffers(): { name: string; tensor: Tensor }[] {
    return this.#states.flatMap(({ unit, master, m, v }) => Object.entries({ master, m, v }).map(([kind, tensor]) => ({ name: `${unit.name}.${kind}`, tensor })))
  }

  /** Goes on after `step` applied steps, once the buffers hold what they held then: the weights follow from the masters. */
  resume(step: number): void {
    this.#step = step
    for (const { unit, master } of this.#states) if (master !== unit.params) native().cast(this.device, { in: master, out: unit.params })
  }

  zeroGrad(): void {
    for (const { unit } of this.#states) native().fill(this.device, { out: unit.grads!, value: 0 })
  }

  /** Norm of the gradients divided by `lossScale`, and whether all are finite; changes nothing. */
  norm(lossScale = 1): Promise<StepResult> {
    return this.#told(this.#control(lossScale))
  }

  #control(lossScale: number): Tensor {
    return native().gradientControl(this.device, { grads: this.#states.map((s) => s.unit.grads!), clip: this.options.maxGradNorm, scale: 1 / lossScale })
  }

  async #told(control: Tensor): Promise<StepResult> {
    const read = control.read()
    control.dispose()
    const [norm, , finite] = (await read) as Float32Array
    return { gradNorm: norm!, finite: finite === 1 }
  }

  /** One update with the gradients divided by `lossScale`; waits for the norm. `loraLr` is for LoRA's factors. */
  async update(lr: number, { lossScale = 1, loraLr = lr } = {}): Promise<StepResult> {
    const { device } = this
    const { beta1, beta2, eps, weightDecay } = this.options
    const control = this.#control(lossScale)
    for (const { unit, master, m, v } of this.#states) {
      const { decayEnd, size } = unit.layout
      for (const [begin, end, decay] of [
        [0, decayEnd, weightDecay],
        [decayEnd, size, 0],
      ] as const) {
        if (begin === end) continue
        const views = [unit.params, master, unit.grads!, m, v].map((t) => t.view(begin, [end - begin]))
        const [param, main, grad, first, second] = views as [Tensor, Tensor, Tensor, Tensor, Tensor]
        native().adamw(device, {
          param,
          master: main,
          grad,
          m: first,
          v: second,
          control,
          lr: unit.lora ? loraLr : lr,
          beta1,
          beta2,
          eps,
          weightDecay: decay,
          step: this.#step + 1,
        })
        for (const view of views) view.dispose()
      }
    }
    const result = await this.#told(control)
    if (result.finite) this.#step++
    return result
  }

  dispose(): void {
    for (const { unit, master, m, v } of this.#states) {
      if (master !== unit.params) master.dispose()
      m.dispose()
      v.dispose()
    }
    this.#states = []
  }
}
