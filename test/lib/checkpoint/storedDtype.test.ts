import test from 'ava'
import fc from 'fast-check'
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../../../lib/base/halves.js'
import { fromFloat32, toFloat32 } from '../../../lib/checkpoint/storedDtype.js'
import { holds } from '../property.js'

const everyHalf = Uint16Array.from({ length: 65536 }, (_, bits) => bits)

/** The nearest of all 16-bit values, ties to the even bit pattern, found without the code under test. */
function nearest(value: number, table: Float32Array): number {
  let low = 0
  let high = table.findIndex((entry) => entry === Infinity)
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (table[middle]! <= Math.abs(value)) low = middle
    else high = middle
  }
  return low
}

for (const [name, narrow, widen] of [
  ['bf16', f32ToBf16, bf16ToF32],
  ['fp16', f32ToF16, f16ToF32],
] as const) {
  const table = widen(everyHalf)

  test(`${name}: every value survives the way through fp32`, (t) => {
    const back = narrow(table)
    const wrong = [...everyHalf].filter((bits) =>
      Number.isNaN(table[bits]!) ? !Number.isNaN(widen(back.subarray(bits, bits + 1))[0]!) : back[bits] !== bits,
    )
    t.deepEqual(wrong, [])
  })

  test(`${name}: rounds to the nearest, ties to even`, (t) => {
    const largest = nearest(Infinity, table)
    holds(
      t,
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const bits = narrow(Float32Array.of(value))[0]! & 0x7fff
        const low = nearest(value, table)
        // Beyond the largest value the next step would lie as far away as the last one.
        const next = low === largest ? 2 * table[low]! - table[low - 1]! : table[low + 1]!
        const size = Math.abs(value)
        const middle = (table[low]! + next) / 2
        const up = size > middle || (size === middle && low % 2 === 1)
        return bits === (up ? low + 1 : low)
      }),
      2000,
    )
  })

  test(`${name}: ties, signs, infinities and NaN`, (t) => {
    const values = Float32Array.of(0, -0, Infinity, -Infinity, NaN, 1, -2)
    const back = widen(narrow(values))
    t.deepEqual(back, values)
    // Halfway between neighbours, for every finite pair.
    for (let bits = 0; table[bits + 1]! < Infinity; bits += 97) {
      const middle = (table[bits]! + table[bits + 1]!) / 2
      if (Math.fround(middle) === middle) t.is(narrow(Float32Array.of(middle))[0], bits % 2 === 0 ? bits : bits + 1)
    }
  })
}

test('bytes of any float dtype to fp32 and back, from any offset', (t) => {
  const values = Float32Array.of(0.5, -3, 1024, 0)
  for (const dtype of ['F64', 'F32', 'F16', 'BF16'] as const) {
    const bytes = fromFloat32(values, dtype)
    t.deepEqual(toFloat32(bytes, dtype), values)
    const shifted = new Uint8Array(bytes.length + 1)
    shifted.set(bytes, 1)
    t.deepEqual(toFloat32(shifted.subarray(1), dtype), values)
  }
})
