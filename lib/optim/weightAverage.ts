// Exponential moving average of a model's fp32 weights, a model of its own at the end (DeepSpeed-Chat's EMA, decay 0.992).
import { native } from '../binding/native.js'
import type { Decoder } from '../model/decoder.js'
import type { Trainable } from '../model/unit.js'
import type { NativeDevice, Tensor } from '../tensor/device.js'
import type { AdamW } from './adamw.js'

export class WeightAverage {
  #averages: { unit: Trainable; master: Tensor; average: Tensor }[]

  /** Starts at the weights as they are. */
  constructor(
    readonly device: NativeDevice,
    optimizer: AdamW,
    /** average <- decay average + (1 - decay) weights, at each update. */
    readonly decay: number,
  ) {
    this.#averages = optimizer.masters.map(({ unit, master }) => {
      const average = device.alloc({ dtype: 'fp32', shape: master.shape, category: 'optimizer' })
      native().cast(device, { in: master, out: average })
      return { unit, master, average }
    })
  }

  /** After an applied step; a skipped one moves nothing. */
  update(): void {
    for (const { average, master } of this.#averages) native().ema(this.device, { average, value: master, decay: this.decay })
  }

  /** fp32, one for each unit. */
  get buffers(): { name: string; tensor: Tensor }[] {
    return this.#averages.map(({ unit, average }) => ({ name: `${unit.name}.average`, tensor: average }))
  }

  /** Puts the average in the place of the model's weights, to save it; the optimizer must not step afterwards. */
  apply({ lora }: Pick<Decoder, 'lora'>): void {
    for (const { unit, average } of this.#averages) native().cast(this.device, { in: average, out: unit.params })
    lora?.merge()
  }

  dispose(): void {
    for (const { average } of this.#averages) average.dispose()
    this.#averages = []
  }
}
