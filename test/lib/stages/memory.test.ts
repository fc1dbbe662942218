// The memory a dry run names is what the device then holds.
import test from 'ava'

import { AdamW } from '../../../lib/optim/adamw.js'
import { KvCache } from '../../../lib/rollout/kvCache.js'
import { planMemory } from '../../../lib/stages/memory.js'
import { openModel } from '../../../lib/stages/openModel.js'
import { createDevice, numel } from '../../../lib/tensor/device.js'

const adam = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0, maxGradNorm: 1 }
const lora = { dim: 4, modules: ['q_proj'], alpha: 0, dropout: 0, only: false }

for (const name of ['opt-tiny', 'llama-tiny'])
  for (const [dtype, factors] of [['fp32', undefined], ['bf16', undefined], ['fp32', lora], ['bf16', { ...lora, only: true }]] as const)
    test(`${name} in ${dtype}${factors ? ` with LoRA${factors.only ? ' only' : ''}` : ''}: parameters, gradients, optimizer and cache to the byte, up to the allocator's rounding`, async (t) => {
      using device = createDevice({ threads: 1 })
      using model = await openModel(device, `test/fixtures/models/${name}`, { dtype, ...(factors && { lora: factors }) }, {})
      const { decoder } = model
      const optimizer = new AdamW(device, decoder.trainables, adam)
      const cache = new KvCache(decoder, 5, 16)
      // memory is taken at first use
      for (const pages of [...cache.tensors.keys, ...cache.tensors.values]) pages.write(dtype === 'fp32' ? new Float32Array(numel(pages.shape)) : new Uint16Array(numel(pages.shape)))
      optimizer.zeroGrad()
      await optimizer.update(0)
      decoder.lora?.gradients(0)?.dispose()
      await device.sync()
      const { bytes, blocks } = device.stats()
      const plan = planMemory([{ spec: decoder.spec, head: 'logprob', trained: true, ...(factors && { lora: factors }) }], dtype, { tokens: 100, cache: { pages: 5, pageSize: 16 } })
      for (const category of ['parameters', 'gradients', 'optimizer', 'kvCache'] as const) {
        t.true(plan[category] > 0)
        t.true(Math.abs(bytes[category] - plan[category]) <= 256 * blocks, `${category}: ${bytes[category]} held, ${plan[category]} planned`)
      }
      optimizer.dispose()
      cache.dispose()
    })
