// The config.json of checkpoints that people use: each is understood, and its parameters are as many as its makers say.
import test from 'ava'

import { readSpec } from '../../../lib/model/families/registry.js'
import { parameterCount } from '../../../lib/stages/memory.js'
import { failsWith } from '../data/support.js'
import { published } from './published.js'

const parameters: Readonly<Record<string, number>> = {
  'facebook/opt-125m': 125_239_296,
  'facebook/opt-350m': 331_196_416,
  gpt2: 124_439_808,
  distilgpt2: 81_912_576,
  'EleutherAI/gpt-neo-125m': 125_198_592,
  'EleutherAI/gpt-j-6b': 6_050_882_784,
  'Salesforce/codegen-350M-mono': 356_712_448,
  'EleutherAI/pythia-70m': 70_426_624,
  'EleutherAI/gpt-neox-20b': 20_554_567_680,
  'bigscience/bloom-560m': 559_214_592,
  'bigscience/bloom': 176_247_271_424,
  'huggyllama/llama-7b': 6_738_415_616,
  'meta-llama/Llama-2-7b-hf': 6_738_415_616,
  'meta-llama/Meta-Llama-3-8B': 8_030_261_248,
  'meta-llama/Llama-3.2-1B': 1_235_814_400,
  'HuggingFaceTB/SmolLM2-135M': 134_515_008,
  'mistralai/Mistral-7B-v0.1': 7_241_732_096,
  'mistralai/Mistral-7B-Instruct-v0.3': 7_248_023_552,
  'Qwen/Qwen2-7B-Instruct': 7_615_616_512,
  'Qwen/Qwen2.5-0.5B': 494_032_768,
  'Qwen/Qwen3-0.6B': 596_049_920,
  'google/gemma-2-2b': 2_614_341_888,
  'google/gemma-3-1b-it': 999_885_952,
  'google/gemma-3-270m': 268_098_176,
  'microsoft/Phi-3-mini-4k-instruct': 3_821_079_552,
  'microsoft/Phi-4-mini-instruct': 3_836_021_760,
}

for (const [name, config] of Object.entries(published))
  test(name, (t) => {
    const { family, spec } = readSpec(config, name)
    t.is(family.type as unknown, config['model_type'])
    t.is(parameterCount(spec), parameters[name])
    t.is(spec.maxPositions, name.includes('Phi-4') ? 4096 : ((config['max_position_embeddings'] ?? config['n_positions'] ?? config['seq_length']) as number))
  })

test('what would change the numbers is refused by name', async (t) => {
  const llama = published['meta-llama/Llama-2-7b-hf']!
  const refused = (change: object, ...says: string[]): Promise<void> => failsWith(t, () => readSpec({ ...llama, ...change }, 'config.json'), ...says)
  await refused({ quantization_config: { bits: 4 } }, '"quantization_config"')
  await refused({ num_local_experts: 8 }, '"num_local_experts": 8')
  await refused({ hidden_act: 'relu2' }, '"hidden_act"', '"relu2"')
  await refused({ rope_scaling: { type: 'other', factor: 2 } }, '"rope_scaling"', 'yarn')
  await refused({ model_type: 'mixtral' }, 'a model_type of', '"mixtral"')
  await refused({ rope_interleaved: true }, '"rope_interleaved"')
})
