// Run by bitEqual.test.ts in a process of its own, because THREEFOLD_ISA is read once. Prints what it found as JSON.
import { native } from '../../../lib/binding/native.js'
import { createDevice } from '../device.js'
import { sampleAndRecompute } from './recompute.js'
import { anyModel, generation, randomPrompts } from './support.js'

let differing = 0
let tokens = 0
const sum = { logprobs: 0 }
using device = createDevice({ threads: 2 })
for (const name of ['opt-odd', 'llama-odd', 'wide-llama'])
  for (const dtype of ['fp32', 'bf16', 'fp16'] as const) {
    using model = await anyModel(device, name, dtype)
    const { vocab } = model.decoder.spec
    for (const maxBatch of [1, 4]) {
      const found = await sampleAndRecompute(model.decoder, randomPrompts(8, name.startsWith('wide') ? 80 : 12, vocab), generation(vocab, { temperature: 0.7, maxBatch, pageSize: 4 }))
      differing += found.differing
      for (const r of found.rollouts) {
        tokens += r.answer.length
        sum.logprobs += r.logprobs.reduce((s, x) => s + x, 0)
      }
    }
  }
process.stdout.write(JSON.stringify({ isa: native().cpuInfo().isa, differing, tokens, sum: sum.logprobs }))
