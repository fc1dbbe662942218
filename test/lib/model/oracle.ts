// Fixtures made by test/oracle/models.py: a checkpoint saved by transformers and float64 answers for it.
import { join } from 'node:path'

import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import type { PackedBatch } from '../../../lib/data/packing.js'
import { packRows } from '../../../lib/data/packing.js'
import type { HeadKind } from '../../../lib/model/spec.js'
import type { DType, NativeDevice } from '../../../lib/tensor/device.js'

export const models = ['opt-tiny', 'opt-odd', 'llama-tiny', 'llama-odd']
export const modelFolder = (name: string): string => join(import.meta.dirname, '../../fixtures/models', name)

export class Oracle {
  private constructor(
    private readonly file: SafetensorsFile,
    readonly ids: Int32Array,
    readonly lengths: Int32Array,
    readonly counted: Int32Array,
  ) {}

  static async open(name: string): Promise<Oracle> {
    const file = await SafetensorsFile.open(join(modelFolder(name), 'oracle.safetensors'))
    const ints = async (n: string): Promise<Int32Array> => new Int32Array((await file.read(n)).buffer)
    return new Oracle(file, await ints('input_ids'), await ints('lengths'), await ints('counted'))
  }

  get names(): string[] {
    return [...this.file.entries.keys()]
  }

  async doubles(name: string): Promise<Float64Array> {
    return new Float64Array((await this.file.read(name)).buffer)
  }

  async floats(name: string): Promise<Float32Array> {
    return new Float32Array((await this.file.read(name)).buffer)
  }

  async ints(name: string): Promise<Int32Array> {
    return new Int32Array((await this.file.read(name)).buffer)
  }

  /** The rows as a packed batch; `all` counts every token but each first. */
  batch(all = false): PackedBatch {
    let at = 0
    return packRows(
      Array.from(this.lengths, (n) => {
        const ids = this.ids.slice(at, at + n)
        const counted = all ? new Uint8Array(n).fill(1, 1) : Uint8Array.from(this.counted.slice(at, at + n))
        at += n
        return { ids, counted }
      }),
    )
  }
}

export function loadFixture(device: NativeDevice, name: string, dtype: DType = 'fp32', head: HeadKind = 'logprob'): Promise<LoadedModel> {
  return LoadedModel.load(device, modelFolder(name), { dtype, head })
}

/** Largest |a - b| / max(1, |b|). */
export function worst(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let top = got.length === want.length ? 0 : Infinity
  for (let i = 0; i < want.length; i++) {
    const gap = Math.abs(got[i]! - want[i]!) / Math.max(1, Math.abs(want[i]!))
    top = gap > top || Number.isNaN(gap) ? gap : top
  }
  return top
}
