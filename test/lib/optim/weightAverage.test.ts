// The moving average against the same sums in float64, and as what a model is saved with.
import test from 'ava'

import { AdamW } from '../../../lib/optim/adamw.js'
import { WeightAverage } from '../../../lib/optim/weightAverage.js'
import { native } from '../../../lib/binding/native.js'
import { createDevice, readFloats } from '../device.js'
import { freshModel } from '../contracts/support.js'

for (const dtype of ['fp32', 'bf16', 'fp16'] as const)
  test(`${dtype}: ten updates of the average of moving weights, then the average in the model's place`, async (t) => {
    using device = createDevice({ threads: 2 })
    using model = await freshModel(device, 'tiny', { dtype })
    const { units } = model.decoder
    const optimizer = new AdamW(device, units, { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 })
    const average = new WeightAverage(device, optimizer, 0.9)
    const masters = (): Promise<Float32Array[]> => Promise.all(optimizer.masters.map(({ master }) => readFloats(master)))
    const expected = (await masters()).map((m) => Float64Array.from(m))
    const first = expected.map((e) => e.slice())
    for (let i = 0; i < 10; i++) {
      for (const unit of units) if (unit.layout.size > 0) native().fill(device, { out: unit.grads!, value: i - 4.5 })
      await optimizer.update(0.01)
      average.update()
      for (const [u, m] of (await masters()).entries()) for (let j = 0; j < m.length; j++) expected[u]![j] = 0.9 * expected[u]![j]! + 0.1 * m[j]!
    }
    const got = await Promise.all(average.buffers.map(({ tensor }) => readFloats(tensor)))
    const furthest = (a: ArrayLike<number>[], b: ArrayLike<number>[]): number => Math.max(...a.map((x, u) => Math.max(...Array.from(x, (v, j) => Math.abs(v - b[u]![j]!)))))
    t.true(furthest(got, expected) < 1e-6, `${furthest(got, expected)}`)
    t.true(furthest(got, first) > 0.01, 'it has moved')
    t.true(furthest(got, await masters()) > 0.001, 'and lags behind')
    average.apply(model.decoder)
    const params = await Promise.all(units.filter((u) => u.layout.size > 0).map((u) => readFloats(u.params)))
    t.true(furthest(params, got) <= (dtype === 'fp32' ? 0 : 0.02))
    average.dispose()
    optimizer.dispose()
  })
