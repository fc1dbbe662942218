// Dynamic loss scale for fp16, whose gradients would vanish below 2^-24 (Micikevicius et al. 2018): DeepSpeed's
// DynamicLossScaler as DeepSpeed-Chat sets it up. Powers of two, so that scaling changes no bit but those that would be lost.

/** Everything the next scale depends on. */
export interface LossScaleState {
  scale: number
  /** Overflows until the scale falls. */
  hysteresis: number
  /** Steps since the last overflow, or since the start. */
  clean: number
}

export class LossScale {
  #state: LossScaleState

  constructor(
    /** `window`: clean steps after which the scale doubles; `hysteresis`: overflows in its time before it falls. */
    readonly options: { initial: number; window: number; hysteresis: number; min: number } = { initial: 2 ** 16, window: 100, hysteresis: 2, min: 1 },
  ) {
    this.#state = { scale: options.initial, hysteresis: options.hysteresis, clean: 0 }
  }

  get scale(): number {
    return this.#state.scale
  }

  get state(): LossScaleState {
    return { ...this.#state }
  }

  restore(state: LossScaleState): void {
    this.#state = { ...state }
  }

  /** After a step whose gradients were finite. */
  grow(): void {
    const { window, hysteresis } = this.options
    this.#state.clean++
    if (this.#state.clean % window !== 0) return
    this.#state.scale *= 2
    this.#state.hysteresis = hysteresis
  }

  /** After a step whose gradients were not. False: the scale is at its least, and cannot be what is wrong. */
  shrink(): boolean {
    const { scale, hysteresis } = this.#state
    this.#state.clean = 0
    if (hysteresis > 1) this.#state.hysteresis--
    else this.#state.scale = Math.max(scale / 2, this.options.min)
    return hysteresis > 1 || scale > this.options.min
  }
}
