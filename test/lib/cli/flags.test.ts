import test from 'ava'
import { Option } from 'commander'

import { option } from '../../../lib/base/options.js'
import type { CommandSpec } from '../../../lib/cli/command.js'
import { commands } from '../../../lib/cli/commands.js'
import { flagsOf, normalize, toFlag } from '../../../lib/cli/flags.js'

const named = (name: string): CommandSpec => commands.find((c) => c.name === name)!

test('underscores become dashes in the names of known flags, values and unknown names stay', (t) => {
  const words = ['--model_name_or_path', 'my_model', '--per_device_train_batch_size=4', '--not_a_flag', '--data-path', 'a_b']
  t.deepEqual(normalize(words, named('sft')), ['--model-name-or-path', 'my_model', '--per-device-train-batch-size=4', '--not_a_flag', '--data-path', 'a_b'])
})

test('aliases', (t) => {
  t.deepEqual(normalize(['--actor-model', 'a', '--reward_model=b'], named('train')), ['--actor-model-name-or-path', 'a', '--reward-model-name-or-path=b'])
  t.deepEqual(normalize(['--model_name_or_path', 'm'], named('score')), ['--model', 'm'])
})

test('every flag of every command makes an option whose key is the key of the table', (t) => {
  for (const command of commands) for (const [key, o] of Object.entries(flagsOf(command))) t.is(toFlag(Option, key, o).attributeName(), key)
})

test('help says what it is, its range, its unit and its default', (t) => {
  const flag = toFlag(Option, 'maxSeqLen', option.integer(512, 'longest row', { min: 2, unit: 'tokens' }))
  t.is(flag.flags, '--max-seq-len <integer>')
  t.is(flag.description, 'longest row (tokens, 2 or more, default: 512)')
  t.is(toFlag(Option, 'dataPath', option.requiredTexts('files')).description, 'files (required)')
  t.is(toFlag(Option, 'dtype', option.choice('fp32', ['fp32', 'bf16'], 'storage')).flags, '--dtype <fp32|bf16>')
  t.is(toFlag(Option, 'offload', option.later(false, 'ZeRO sharding')).description, 'false; comes with ZeRO sharding')
})
