// Tensors on their way into new files, in pieces.
import { join } from 'node:path'

import test from 'ava'

import { convertedTensors } from '../../../lib/checkpoint/converted.js'
import { tensorOf, writeSafetensors } from '../../../lib/checkpoint/safetensorsWriter.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { bf16ToF32, f32ToBf16 } from '../../../lib/base/halves.js'
import { readTensor } from '../../../lib/checkpoint/tensorFiles.js'
import { temporaryFolder } from '../data/support.js'

test('a tensor of several pieces is cast whole; integers, names and order stay; buffers and a tied head go', async (t) => {
  const folder = await temporaryFolder(t)
  const n = (1 << 21) + 5
  const values = Float32Array.from({ length: n }, (_, i) => (i % 1000) / 7 - 50)
  const tensors = [
    tensorOf('a.weight', 'F32', [n], values),
    tensorOf('counts', 'I32', [3], Int32Array.of(1, 2, 3)),
    tensorOf('h.0.attn.masked_bias', 'F32', [1], Float32Array.of(-1e4)),
    tensorOf('lm_head.weight', 'F32', [2], Float32Array.of(1, 2)),
  ]
  await writeSafetensors(join(folder, 'from.safetensors'), tensors)
  const { entries } = await SafetensorsFile.open(join(folder, 'from.safetensors'))
  const head = entries.get('lm_head.weight')!
  const tied = new Map([...entries, ['embed.weight', { ...head, name: 'embed.weight' }]])

  const converted = convertedTensors(tied, 'BF16', new Map([['stock.weight', 'a.weight']]))
  t.deepEqual(converted.map(({ name, dtype }) => [name, dtype]).sort(), [['counts', 'I32'], ['embed.weight', 'BF16'], ['stock.weight', 'BF16']])
  t.true(convertedTensors(entries, null, null).some(({ name }) => name === 'lm_head.weight'), 'a head of its own stays')
  await writeSafetensors(join(folder, 'to.safetensors'), converted)
  const written = (await SafetensorsFile.open(join(folder, 'to.safetensors'))).entries
  const cast = new Uint16Array((await readTensor(written.get('stock.weight')!)).buffer)
  t.deepEqual(Buffer.from(cast.buffer), Buffer.from(f32ToBf16(values).buffer))
  t.true(Math.abs(bf16ToF32(cast)[n - 1]! - values[n - 1]!) < 0.2)
  t.deepEqual(new Int32Array((await readTensor(written.get('counts')!)).buffer), Int32Array.of(1, 2, 3))
})
