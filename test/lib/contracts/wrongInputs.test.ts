// Contract 6: wrong input is refused before work starts, in one shape, by name. The table grows with every feature.
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { SafetensorsFile } from '../../../lib/checkpoint/safetensors.js'
import { tensorOf, writeSafetensors } from '../../../lib/checkpoint/safetensorsWriter.js'
import type { TensorSource } from '../../../lib/checkpoint/safetensorsWriter.js'
import { LoadedModel } from '../../../lib/checkpoint/model.js'
import { generateAll } from '../../../lib/rollout/generate.js'
import type { GenerateOptions } from '../../../lib/rollout/generate.js'
import { planSft } from '../../../lib/stages/dryRun.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { pretrain } from '../../../lib/stages/pretrain.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { createDevice } from '../device.js'
import { loadFixture, modelFolder } from '../model/oracle.js'

let root = ''
test.before(async () => {
  root = await mkdtemp(join(tmpdir(), 'threefold-wrong-'))
})
test.after.always(() => rm(root, { recursive: true, force: true }))

let count = 0
async function folder(): Promise<string> {
  const path = join(root, String(count++))
  await mkdir(path)
  return path
}

async function file(name: string, content: string): Promise<string> {
  const path = join(await folder(), name)
  await writeFile(path, content)
  return path
}

/** opt-tiny with its config or weights changed. */
async function opt(config: Record<string, unknown> = {}, weights?: (all: TensorSource[]) => TensorSource[], from = 'opt-tiny'): Promise<string> {
  const path = await folder()
  await cp(modelFolder(from), path, { recursive: true })
  const json = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as object
  await writeFile(join(path, 'config.json'), JSON.stringify({ ...json, ...config }))
  if (weights) {
    const stored = await SafetensorsFile.open(join(modelFolder(from), 'model.safetensors'))
    const all = [...stored.entries.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape, data: () => stored.read(name) }))
    await writeSafetensors(join(path, 'model.safetensors'), weights(all))
  }
  return path
}

const ids = '{"input_ids":[5,6,7,8]}\n'
const rows = (): Promise<string> => file('rows.jsonl', ids)
const trainOn = async (modelNameOrPath: string, data?: string, more: object = {}): Promise<unknown> =>
  sft({ modelNameOrPath, dataPath: [data ?? (await rows())], numTrainEpochs: 1, maxSeqLen: 32, threads: 1, ...more })
const given = async (more: object): Promise<unknown> => trainOn(await opt(), undefined, more)
const onRows = async (content: string, name = 'rows.jsonl', more: object = {}): Promise<unknown> => trainOn(await opt(), await file(name, content), more)
const textTokenizer = (vocab: number): string =>
  JSON.stringify({ model: { type: 'BPE', vocab: Object.fromEntries(Array.from({ length: vocab }, (_, i) => [`t${i}`, i])), merges: [] }, added_tokens: [] })

async function scalar(config: Record<string, unknown> = {}): Promise<string> {
  return opt({ architectures: ['OPTForSequenceClassification'], ...config })
}
const ppoOn = async (more: object, critic?: string): Promise<unknown> =>
  ppo({ actorModelNameOrPath: await opt(), criticModelNameOrPath: critic ?? (await scalar()), dataPath: [await rows()], maxPromptSeqLen: 8, maxAnswerSeqLen: 4, threads: 1, ...more })
async function draw(prompt: number[], more: Partial<GenerateOptions>): Promise<unknown> {
  using device = createDevice({ threads: 1 })
  using model = await loadFixture(device, 'opt-tiny')
  const options = { temperature: 1, topK: 0, topP: 1, maxNewTokens: 2, eosIds: [], maxBatch: 1, pageSize: 16, ...more }
  return generateAll(model.decoder, [{ ids: Int32Array.from(prompt), seed: 1n }], options)
}

const floats = (n: number, value: number): Float32Array => new Float32Array(n).fill(value)
const BIAS = 'model.decoder.layers.0.fc2.bias'
const replaced = (name: string, by: TensorSource) => (all: TensorSource[]) => all.map((t) => (t.name === name ? by : t))

/** [what, the call, where it is refused, what the message must say] */
const table: [string, () => Promise<unknown>, string | RegExp, RegExp][] = [
  ['an unknown option', () => given({ nope: 1 }), 'sft', /--nope/],
  ['a missing required option', () => sft({ modelNameOrPath: 'x' } as never), 'sft', /--data-path/],
  ['a number that is none', () => given({ learningRate: 'fast' }), '--learning-rate', /a number.*"fast"/],
  ['a fraction where a whole number belongs', () => given({ numTrainEpochs: 1.5 }), '--num-train-epochs', /whole number.*1\.5/],
  ['a number out of range', () => given({ numTrainEpochs: 0 }), '--num-train-epochs', /at least 1.*0/],
  ['an unknown choice', () => given({ lrSchedulerType: 'wavy' }), '--lr-scheduler-type', /linear, cosine.*"wavy"/],
  ['a feature that is not there yet', () => given({ zeroStage: 2 }), '--zero-stage', /0 in this version.*2.*ZeRO/],
  ['a GPU that is not there', () => given({ device: 'cuda:99' }), 'device', /CUDA|NVIDIA|cuda:0/],
  ['a device that does not exist', () => given({ device: 'gpu' }), '--device', /cpu, cuda, cuda:N.*"gpu"/],
  ['a model folder that is missing', () => trainOn(join(root, 'nowhere')), 'hub', /a model at .*nowhere, or a hub id.*no such path/],
  ['a folder without config.json', async () => trainOn(await folder()), 'model', /config\.json/],
  [
    'a broken config.json',
    async () => {
      const path = await opt()
      await writeFile(join(path, 'config.json'), '{"model_type": "opt",\n oops}')
      return trainOn(path)
    },
    /./,
    /config\.json/,
  ],
  ['an unknown model_type', async () => trainOn(await opt({ model_type: 'mamba' })), 'config', /opt, gpt2.*llama.*"mamba"/],
  ['an unsupported config value', async () => trainOn(await opt({ layer_norm_elementwise_affine: false })), 'config', /layer_norm_elementwise_affine.*false/],
  ['a config field nobody knows', async () => trainOn(await opt({ attention_multiplier: 0.5 })), 'config', /fields.*whose meaning is known.*"attention_multiplier": 0\.5/],
  ['an unknown activation', async () => trainOn(await opt({ activation_function: 'sine' })), 'config', /activation_function.*"sine"/],
  ['heads that do not divide', async () => trainOn(await opt({ num_attention_heads: 5 })), 'config', /num_attention_heads.*5/],
  [
    'an unknown rotary scaling',
    async () => trainOn(await opt({ rope_parameters: { rope_type: 'spiral', rope_theta: 1e4 } }, undefined, 'llama-tiny')),
    'config',
    /rope_type of default, linear.*rope_parameters.*spiral/,
  ],
  [
    'a rotary scaling without its numbers',
    async () => trainOn(await opt({ rope_parameters: { rope_type: 'llama3', rope_theta: 1e4, factor: 8 } }, undefined, 'llama-tiny')),
    'config',
    /a number above 0 as "low_freq_factor".*rope_parameters/,
  ],
  [
    'a folder without weights',
    async () => {
      const path = await opt()
      await rm(join(path, 'model.safetensors'))
      return trainOn(path)
    },
    'weights',
    /model\.safetensors.*pytorch_model\.bin.*none of them/,
  ],
  [
    'torn safetensors',
    async () => {
      const path = await opt()
      await truncate(join(path, 'model.safetensors'), 20_000)
      return trainOn(path)
    },
    'safetensors',
    /model\.safetensors/,
  ],
  [
    'safetensors that are something else',
    async () => {
      const path = await opt()
      await writeFile(join(path, 'model.safetensors'), 'these are not the weights you are looking for')
      return trainOn(path)
    },
    'safetensors',
    /header/,
  ],
  ['a missing weight', async () => trainOn(await opt({}, (all) => all.filter((t) => t.name !== BIAS))), 'weights', /missing model\.decoder\.layers\.0\.fc2\.bias/],
  ['a surplus weight', async () => trainOn(await opt({}, (all) => [...all, tensorOf('extra.weight', 'F32', [2], floats(2, 0))])), 'weights', /surplus extra\.weight/],
  ['a misshapen weight', async () => trainOn(await opt({}, replaced(BIAS, tensorOf(BIAS, 'F32', [3], floats(3, 0))))), 'weights', /misshapen .*fc2\.bias \[3\] instead of \[32\]/],
  ['a weight of the wrong type', async () => trainOn(await opt({}, replaced(BIAS, tensorOf(BIAS, 'I32', [32], new Int32Array(32))))), 'weights', /I32 for model\.decoder\.layers\.0\.fc2\.bias/],
  ['a weight that is not a number', async () => trainOn(await opt({}, replaced(BIAS, tensorOf(BIAS, 'F32', [32], floats(32, Number.NaN))))), 'weights', /finite.*a number that is not, in model\.decoder\.layers\.0\.fc2\.bias \(element 0 of layers\.0\.mlp\.down\.bias\)/],
  [
    'a tokenizer larger than the vocabulary',
    async () => {
      const path = await opt()
      await writeFile(join(path, 'tokenizer.json'), textTokenizer(500))
      return trainOn(path)
    },
    'model',
    /at most 97 ids.*500/,
  ],
  ['a data file that is missing', () => given({ dataPath: [join(root, 'none.jsonl')] }), /./, /none\.jsonl/],
  ['an empty dataset', () => onRows(''), 'data', /rows\.jsonl/],
  ['a line that is not JSON', () => onRows(ids + '{"input_ids": [1,2\n'), 'files', /rows\.jsonl.*line 2/],
  ['a field of the wrong type', () => onRows('{"prompt": 5, "response": "x"}\n'), 'data', /"prompt".*rows\.jsonl line 1/],
  ['a row of unknown shape', () => onRows('{"question": "why"}\n'), 'data', /rows\.jsonl line 1/],
  ['a token id out of range', () => onRows('{"input_ids":[5,97]}\n'), 'data', /rows\.jsonl line 1.*97/],
  ['a negative token id', () => onRows('{"input_ids":[5,-3]}\n'), 'data', /rows\.jsonl line 1.*-3/],
  ['labels of another length', () => onRows('{"input_ids":[5,6],"labels":[5]}\n'), 'data', /labels.*rows\.jsonl line 1/],
  ['text without a tokenizer', () => onRows('{"text":"hello"}\n'), /./, /tokenizer/],
  ['rows that are all too long', () => onRows(JSON.stringify({ input_ids: Array(50).fill(5) }) + '\n'), 'data', /--max-seq-len 32.*none of 1/],
  ['a Parquet file that is cut off', () => onRows('PAR1 and what follows', 'rows.parquet'), 'data', /a whole Parquet file.*rows\.parquet.*no PAR1 at both ends/],
  ['a CSV row with a value too many', () => onRows('prompt,response\nc,d,e\n', 'rows.csv'), 'data', /2 values, as in the header, in .*rows\.csv line 2, received 3/],
  ['a JSON array that is cut off', () => onRows('[{"input_ids": [5, 6]},\n {"input_ids"', 'rows.json'), 'data', /the row that begins at line 2 column 2 of .*rows\.json/],
  ['a file of an unknown kind', () => onRows('x', 'rows.txt'), 'data', /\.jsonl.*\.parquet, received .*rows\.txt/],
  ['columns that are no pairs', () => given({ columns: 'prompt' }), '--columns', /pairs field=column.*"prompt"/],
  ['columns that the rows have not', () => given({ columns: 'text=body' }), 'data', /a field "body" for text in .*rows\.jsonl line 1, received the fields "input_ids"/],
  ['a weight too few', async () => given({ dataPath: [await rows(), await rows()], dataWeights: '1' }), '--data-weights', /2 numbers.*"1"/],
  [
    'a hub id that is not in the cache, offline',
    async () => {
      Object.assign(process.env, { HF_HUB_OFFLINE: '1', HF_HOME: root })
      return given({ dataPath: ['owner/name'] })
    },
    'hub',
    /the dataset owner\/name in .*HF_HUB_OFFLINE is set/,
  ],
  ['a data split with too few shares', () => given({ dataSplit: '2,4' }), '--data-split', /3 numbers.*"2,4"/],
  ['a data split that leaves nothing', () => onRows(ids.repeat(4), 'rows.jsonl', { dataSplit: '0,1,1' }), 'data', /rows for this step.*none of 4/],
  ['rows without pairs for a reward model', async () => reward({ modelNameOrPath: await opt(), dataPath: [await rows()], threads: 1 }), 'data', /chosen/],
  ['one token where pretraining needs two', async () => pretrain({ modelNameOrPath: await opt(), dataPath: [await rows()], maxSeqLen: 1, threads: 1 }), '--max-seq-len', /at least 2/],
  ['an output folder that is a file', async () => given({ outputDir: join(await rows(), 'run') }), /./, /run/],
  [
    "an output folder whose model would replace a user's files",
    async () => {
      const outputDir = await folder()
      await mkdir(join(outputDir, 'model'))
      await writeFile(join(outputDir, 'model', 'notes.txt'), 'mine')
      return given({ outputDir })
    },
    '--output-dir',
    /older model at .*model, received a folder with notes\.txt/,
  ],
  ['an actor and a reward model of different vocabularies', async () => ppoOn({}, modelFolder('llama-tiny')), 'ppo', /vocabulary \(97\).*101/],
  ['a reward model as the actor', async () => ppoOn({ actorModelNameOrPath: await scalar() }), 'model', /a language model in .*ForSequenceClassification.*swapped/],
  ['a reward model for SFT', async () => trainOn(await scalar()), 'model', /a language model in .*ForSequenceClassification/],
  [
    'a dry run with a tokenizer larger than the vocabulary',
    async () => {
      const path = await opt()
      await writeFile(join(path, 'tokenizer.json'), textTokenizer(500))
      return planSft({ modelNameOrPath: path, dataPath: [await rows()] })
    },
    'model',
    /at most 97 ids.*500/,
  ],
  ['prompts and answers beyond the positions', () => ppoOn({ maxPromptSeqLen: 60, maxAnswerSeqLen: 60 }), 'ppo', /at most 64 tokens together.*60 \+ 60/],
  ['cut sampling in PPO', () => ppoOn({ topK: 5 }), 'ppo', /--top-k 5.*--allow-cut-sampling/],
  ['an empty prompt', () => draw([], {}), 'generate', /at least one token.*row 0/],
  ['a prompt with an unknown id', () => draw([4, 200], {}), 'generate', /from 0 to 96.*200 at position 1 of row 0/],
  ['a prompt that fills all positions', () => draw(Array<number>(64).fill(5), {}), 'generate', /64 positions.*64 tokens/],
  ['a negative temperature', () => draw([5], { temperature: -1 }), 'sampling', /temperature of 0 or more.*-1/],
  ['a top-p above 1', () => draw([5], { topP: 1.5 }), 'sampling', /top-p.*1\.5/],
  ['training that diverges', () => given({ learningRate: 1e30, maxGradNorm: 0, numTrainEpochs: 40, maxSkippedSteps: 3, lrSchedulerType: 'constant' }), 'training', /finite loss.*3 steps in a row/],
]

for (const [what, call, where, says] of table)
  test(`refuses ${what}`, async (t) => {
    const error = await t.throwsAsync(call)
    t.true(error instanceof ThreefoldError, String(error))
    if (!(error instanceof ThreefoldError)) return
    if (typeof where === 'string') t.is(error.where, where, error.message)
    else t.regex(error.where, where)
    t.regex(error.message, says)
    t.regex(error.message, /^\[.+\] expected .+, received .+\. Try .+\.$/s)
  })

test('the table holds at least 25 wrong inputs', (t) => t.true(table.length >= 25))

test('the same call with good input is not refused', async (t) => {
  await t.notThrowsAsync(() => given({}))
})

test('a folder loads again after a refused one', async (t) => {
  using device = createDevice({ threads: 1 })
  await t.throwsAsync(async () => LoadedModel.load(device, await opt({ model_type: 'mamba' }), { dtype: 'fp32' }))
  using model = await LoadedModel.load(device, await opt(), { dtype: 'fp32' })
  t.is(model.decoder.spec.vocab, 97)
})
