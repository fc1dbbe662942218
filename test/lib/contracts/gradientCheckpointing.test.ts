// Gradient checkpointing computes again what it did not keep: the same gradients, bit for bit, in a fraction of the memory.
import test from 'ava'

import { native } from '../../../lib/binding/native.js'
import { packRows } from '../../../lib/data/packing.js'
import { trainLogprobsLinear } from '../../../lib/engine/logprobs.js'
import type { Decoder } from '../../../lib/model/decoder.js'
import { tokenLossGrad } from '../../../lib/rlhf/tokenLoss.js'
import { createDevice, slow } from '../device.js'
import type { DType } from '../device.js'
import { anyModel, configs, freshModel, randomRows, sameBits } from './support.js'

/** Gradients of one batch, and the most that activations took. */
async function backward(decoder: Decoder, gradientCheckpointing: boolean, rows = randomRows(8, decoder.spec.vocab)): Promise<{ gradients: Float32Array; logprobs: Float32Array; peak: number }> {
  decoder.gradientCheckpointing = gradientCheckpointing
  decoder.trainable()
  for (const unit of decoder.units) if (unit.grads!.shape[0]! > 0) native().fill(decoder.device, { out: unit.grads!, value: 0 })
  await decoder.device.sync()
  decoder.device.resetPeaks()
  const batch = packRows(rows)
  const logprobs = await trainLogprobsLinear(decoder, batch, tokenLossGrad(batch.countedTotal, batch.countedTotal))
  const parts = await Promise.all(decoder.units.map((u) => u.grads!.read() as Promise<Float32Array>))
  return { gradients: Float32Array.from(parts.flatMap((p) => Array.from(p))), logprobs, peak: decoder.device.stats().peak.activations }
}

for (const name of ['opt-odd', 'llama-odd', 'neox', 'gemma3', 'opt-post', ...(slow ? [] : ['wide-opt'])])
  for (const dtype of ['fp32', 'bf16', 'fp16'] as DType[])
    test(`${name} ${dtype}: gradients with and without checkpointing are bit-equal`, async (t) => {
      using device = createDevice({ threads: 2 })
      using model = await anyModel(device, name, dtype)
      const without = await backward(model.decoder, false)
      const checkpointed = await backward(model.decoder, true)
      t.true(sameBits(checkpointed.logprobs, without.logprobs))
      t.true(sameBits(checkpointed.gradients, without.gradients))
      t.true(without.gradients.some((g) => g !== 0))
    })

test('12 layers: activations take at most 0.35 of what they take without', async (t) => {
  configs['deep'] = { ...configs['tiny'], num_hidden_layers: 12, ...(!slow && { hidden_size: 64, word_embed_proj_dim: 64, ffn_dim: 256 }) }
  using device = createDevice({ threads: 2 })
  using model = await freshModel(device, 'deep')
  const rows = randomRows(24, 24)
  const without = await backward(model.decoder, false, rows)
  const checkpointed = await backward(model.decoder, true, rows)
  t.log(`peak of activations ${checkpointed.peak} bytes, without ${without.peak}: ${(checkpointed.peak / without.peak).toFixed(3)}`)
  t.true(checkpointed.peak <= 0.35 * without.peak)
  t.true(sameBits(checkpointed.gradients, without.gradients))
})
