// Fixtures made by test/oracle/models.py: a checkpoint saved by transformers and float64 answers for it.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import type { PackedBatch } from '../../../lib/data/packing.js'
import { packRows } from '../../../lib/data/packing.js'
import type { HeadKind } from '../../../lib/model/spec.js'
import { placeOf } from '../../../lib/model/families/registry.js'
import { numel, readFloats } from '../device.js'
import type { DType, NativeDevice } from '../device.js'

/** Another folder of such checkpoints (models.py --random) may be checked in place of the committed one. */
const fixtures = process.env['THREEFOLD_FIXTURES'] ?? join(import.meta.dirname, '../../fixtures/models')
export const models = readdirSync(fixtures).sort()
export const modelFolder = (name: string): string => join(fixtures, name)

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

/** Gradients under their stock names and in their stock shapes. */
export async function stockGradients({ decoder, family }: LoadedModel): Promise<Map<string, Float32Array>> {
  const out = new Map<string, Float32Array>()
  for (const { name, unit, slot } of decoder.parameterNames()) {
    const { shape } = unit.slot(slot)
    const { name: stock, shape: whole, lies } = placeOf(family, decoder.spec, name, shape)
    const view = unit.gradView(slot)!
    const values = await readFloats(view)
    view.dispose()
    const into = out.get(stock) ?? new Float32Array(numel(whole)).fill(Number.NaN)
    out.set(stock, into)
    const columns = shape[1] ?? 1
    for (const [i, value] of values.entries()) {
      const [r, c] = [Math.floor(i / columns), i % columns]
      into[lies.offset + Math.floor(r / lies.block) * lies.blockStride + (r % lies.block) * lies.rowStride + c * lies.columnStride] = value
    }
  }
  return out
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
