// docs/deepspeed-chat.md against the option tables: every flag of DeepSpeed-Chat's four programs, every option of ours,
// each with its true default and state.
import { readFileSync } from 'node:fs'

import test from 'ava'
import { Command, Option as Flag } from 'commander'

import { UsageError } from '../../../lib/base/errors.js'
import { flagName, resolveOptions } from '../../../lib/base/options.js'
import type { Option, OptionTable } from '../../../lib/base/options.js'
import { commands } from '../../../lib/cli/commands.js'
import { addFlags, normalize } from '../../../lib/cli/flags.js'
import { dpoOptions, ppoOptions, pretrainOptions, rewardOptions, sftOptions } from '../../../lib/stages/options.js'
import { cells, sectionsOf } from './markdown.js'

const shared =
  'data_path data_split data_output_path num_train_epochs gradient_accumulation_steps lr_scheduler_type num_warmup_steps output_dir seed local_rank offload dtype only_optimize_lora compute_fp32_loss enable_tensorboard tensorboard_path add_eot_token deepspeed deepspeed_config'
const single =
  shared +
  ' model_name_or_path per_device_train_batch_size per_device_eval_batch_size max_seq_len learning_rate weight_decay gradient_checkpointing dropout zero_stage lora_dim lora_module_name lora_learning_rate'
const both = (names: string): string => names.split(' ').map((n) => `actor_${n} critic_${n}`).join(' ')

interface Program {
  /** Start of the section's title. */
  title: string
  table: OptionTable
  flags: string[]
}
const programs: Program[] = [
  { title: 'Step 1,', table: sftOptions, flags: `${single} sft_only_data_path eot_token print_loss`.split(' ') },
  { title: 'Step 2, the reward model', table: rewardOptions, flags: `${single} num_padding_at_beginning eval_interval eval_iters`.split(' ') },
  { title: 'Step 2 by DPO', table: dpoOptions, flags: `${single} offload_reference_model beta label_smoothing print_loss`.split(' ') },
  {
    title: 'Step 3, PPO',
    table: ppoOptions,
    flags: `${shared} ${both('model_name_or_path learning_rate weight_decay gradient_checkpointing dropout zero_stage lora_dim lora_module_name lora_learning_rate')} num_padding_at_beginning per_device_generation_batch_size per_device_training_batch_size generation_batches ppo_epochs max_prompt_seq_len max_answer_seq_len unsupervised_dataset_name unsupervised_dataset_config_name unsup_coef preprocessing_num_workers offload_reference_model offload_reward_model enable_hybrid_engine unpin_actor_parameters release_inference_cache inference_tp_size tp_gather_partition_size enable_ema enable_mixed_precision_lora align_overflow print_answers print_answers_interval enable_test_mode test_stop_step`.split(
      ' ',
    ),
  },
]

const keyOf = (flag: string): string => flag.replace(/^--/, '').replace(/[_-]([a-z0-9])/g, (_, c: string) => c.toUpperCase())
const plain = (cell: string): string => cell.replace(/`/g, '')

/** A default as the tables write it. */
function shown(value: unknown): string {
  if (value === undefined) return 'required'
  if (value === null || (Array.isArray(value) && value.length === 0)) return 'none'
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)
}

/** "1e-3" and "0.001" are the same. */
function equal(cell: string, value: unknown): boolean {
  return plain(cell) === shown(value) || (typeof value === 'number' && cell !== '' && Number(plain(cell)) === value)
}

/** What is wrong with the row of one flag. */
function complaints(o: Option<unknown> | undefined, [flag, there, here, state, remark]: string[]): string[] {
  const wrong = (text: string): string[] => [`${flag}: ${text}`]
  if (o === undefined) return state === 'not there' && here === '-' ? [] : wrong(`is no option here, the table says ${state} ${here}`)
  if (o.kind !== 'later') {
    if (!equal(here!, o.default)) return wrong(`default ${shown(o.default)}, the table says ${here}`)
    const expected = equal(there!, o.default) ? 'same' : 'differs'
    if (state !== expected) return wrong(`${expected}, the table says ${state}`)
    return expected === 'differs' && remark === '' ? wrong('differs without a reason') : []
  }
  const accepted = new Set(o.noops ? o.noops.map((n) => (n === 'null' || n === 'None' ? 'none' : shown(n))) : ['any'])
  if (state !== 'no-op') return wrong(`comes later, the table says ${state}`)
  if (plain(here!) !== [...accepted].join(', ')) return wrong(`accepts ${[...accepted].join(', ')}, the table says ${here}`)
  const comes = o.comesWith!.startsWith('nothing: ') ? o.comesWith!.slice('nothing: '.length) : `comes with ${o.comesWith!}`
  return remark!.startsWith(comes) ? [] : wrong(`${comes}, the table says ${remark}`)
}

const page = readFileSync(new URL('../../../docs/deepspeed-chat.md', import.meta.url), 'utf8')
const sections = sectionsOf(page)

function rowsOf(title: string): string[][] {
  const name = [...sections.keys()].find((k) => k.startsWith(title))
  return cells(sections.get(name ?? '') ?? '').filter((row) => row[0]!.startsWith('`--'))
}
const rowsOfProgram = new Map(programs.map((p) => [p.title, rowsOf(p.title).map((row) => [plain(row[0]!), ...row.slice(1)])]))

for (const { title, table, flags } of programs) {
  test(`${title}: every flag of the program, once`, (t) => {
    t.deepEqual(
      rowsOfProgram.get(title)!.map((row) => row[0]).sort(),
      flags.map((f) => '--' + f).sort(),
    )
  })

  test(`${title}: states and defaults are those of lib/stages/options.ts`, (t) => {
    t.deepEqual(
      rowsOfProgram.get(title)!.flatMap((row) => complaints(table[keyOf(row[0]!)], row)),
      [],
    )
  })
}

test('the flags of our own are all listed, with command and default', (t) => {
  const listed = rowsOf('Flags DeepSpeed-Chat').flatMap(([flag, commands, value]) => commands!.split(', ').map((c) => `${c} ${plain(flag!)} ${plain(value!)}`))
  const commands: [string, Program][] = [
    ['sft', programs[0]!],
    ['reward', programs[1]!],
    ['dpo', programs[2]!],
    ['ppo', programs[3]!],
  ]
  const expected = commands.flatMap(([command, { table, flags }]) => {
    const theirs = new Set(flags.map(keyOf))
    return Object.entries(table)
      .filter(([key]) => !theirs.has(key))
      .map(([key, o]) => `${command} ${flagName(key)} ${shown(o.default)}`)
  })
  t.deepEqual(listed.sort(), expected.sort())
})

test('pretrain takes the flags of sft without --loss-on', (t) => {
  t.deepEqual(Object.keys(pretrainOptions).sort(), Object.keys(sftOptions).filter((k) => k !== 'lossOn').sort())
})

/** The words of a command line as the stage sees them. */
function resolved(name: string, line: string): Record<string, unknown> {
  const spec = commands.find((c) => c.name === name)!
  const command = new Command().exitOverride().configureOutput({ writeErr: () => undefined }).allowExcessArguments(false)
  addFlags(command, Flag, spec)
  command.parse(normalize(line.trim().split(/\s+/), spec), { from: 'user' })
  return resolveOptions(name, spec.options, command.opts())
}

// Lines as DeepSpeed-Chat's scripts for one GPU or one node have them: only models and data are ours, and the ZeRO
// stage is 0.
const sft = `--data_path a.jsonl b.jsonl c.jsonl d.jsonl --data_split 2,4,4 --model_name_or_path m
  --per_device_train_batch_size 8 --per_device_eval_batch_size 8 --max_seq_len 512 --learning_rate 9.65e-6 --weight_decay 0.
  --num_train_epochs 16 --gradient_accumulation_steps 1 --lr_scheduler_type cosine --num_warmup_steps 0 --seed 1234
  --zero_stage 0 --lora_dim 128 --lora_module_name decoder.layers. --lora_learning_rate 5e-4 --only_optimize_lora
  --data_output_path data_files --tensorboard_path step1_tensorboard --eot_token <|endoftext|> --compute_fp32_loss --print_loss
  --local_rank 0 --deepspeed --output_dir out`
const reward = `--data_path a.jsonl --data_split 2,4,4 --model_name_or_path m --num_padding_at_beginning 1 --weight_decay 0.1
  --dropout 0.0 --per_device_train_batch_size 16 --per_device_eval_batch_size 16 --max_seq_len 512 --learning_rate 5e-5
  --num_train_epochs 1 --gradient_accumulation_steps 4 --lr_scheduler_type cosine --num_warmup_steps 0 --seed 1234
  --zero_stage 0 --eval_interval 50 --eval_iters 20 --deepspeed --output_dir out`
const dpo = `--data_path a.jsonl --data_split 2,4,4 --model_name_or_path out/sft --per_device_train_batch_size 8
  --per_device_eval_batch_size 8 --max_seq_len 512 --learning_rate 1e-3 --weight_decay 0.1 --num_train_epochs 1 --dropout 0.0
  --gradient_accumulation_steps 1 --lr_scheduler_type cosine --num_warmup_steps 0 --seed 1234 --zero_stage 0 --beta 0.1
  --label_smoothing 0.0 --lora_module_name decoder.layers. --compute_fp32_loss --print_loss --deepspeed --output_dir out`
const ppo = `--data_path a.jsonl --data_split 2,4,4 --actor_model_name_or_path out/sft --critic_model_name_or_path out/reward
  --num_padding_at_beginning 1 --per_device_generation_batch_size 4 --per_device_training_batch_size 4 --generation_batches 1
  --ppo_epochs 1 --max_answer_seq_len 256 --max_prompt_seq_len 256 --actor_learning_rate 9.65e-6 --critic_learning_rate 5e-6
  --actor_weight_decay 0.1 --critic_weight_decay 0.1 --num_train_epochs 1 --lr_scheduler_type cosine
  --gradient_accumulation_steps 1 --actor_dropout 0.0 --num_warmup_steps 100 --deepspeed --seed 1234 --enable_hybrid_engine
  --unpin_actor_parameters --release_inference_cache --inference_tp_size 1 --tp_gather_partition_size 4
  --actor_zero_stage 0 --critic_zero_stage 0 --actor_lora_module_name decoder.layers. --critic_lora_learning_rate 5e-4
  --unsup_coef 27.8 --preprocessing_num_workers 4 --print_answers --print_answers_interval 10 --align_overflow
  --test_stop_step 5 --output_dir out`

test('command lines of the four programs are taken as they stand', (t) => {
  t.like(resolved('sft', sft), { dataPath: ['a.jsonl', 'b.jsonl', 'c.jsonl', 'd.jsonl'], learningRate: 9.65e-6, weightDecay: 0, numTrainEpochs: 16, loraDim: 128, loraModuleName: ['decoder.layers.'], loraLearningRate: 5e-4, onlyOptimizeLora: true, outputDir: 'out' })
  t.like(resolved('reward', reward), { dropout: 0, gradientAccumulationSteps: 4, evalInterval: 50, evalIters: 20, outputDir: 'out' })
  t.like(resolved('dpo', dpo), { beta: 0.1, labelSmoothing: 0, lossType: 'sigmoid', outputDir: 'out' })
  t.like(resolved('ppo', ppo), { perDeviceTrainingBatchSize: 4, actorWeightDecay: 0.1, numWarmupSteps: 100, seed: 1234, outputDir: 'out' })
})

test('what asks for something that comes later is refused by its flag', (t) => {
  const asked: [name: string, line: string, more: string][] = [
    ['sft', sft, '--zero_stage 3'],
    ['reward', reward, '--zero_stage 3'],
    ['reward', reward, '--offload'],
    ['dpo', dpo, '--offload_reference_model'],
    ['ppo', ppo, '--critic_zero_stage 3'],
    ['ppo', ppo, '--inference_tp_size 2'],
    ['ppo', ppo, '--enable_mixed_precision_lora'],
  ]
  for (const [name, line, more] of asked) {
    const error = t.throws(() => resolved(name, `${line} ${more}`), { instanceOf: UsageError }, more)
    t.is(error.where, more.split(' ')[0]!.replaceAll('_', '-'))
    t.regex(error.message, /comes with /, more)
  }
})

for (const { title, table, flags } of programs) {
  test(`${title}: every no-op flag takes the values under "Here" and no other`, (t) => {
    for (const [key, o] of flags.map((f) => [keyOf(f), table[keyOf(f)]] as const)) {
      if (o?.kind !== 'later') continue
      const resolve = (value: unknown): unknown => resolveOptions('x', { [key]: o }, { [key]: value })[key]
      for (const value of o.noops ?? ['77', 77]) for (const given of [value, String(value)]) t.is(resolve(given), o.default, key)
      if (o.noops) t.is(t.throws(() => resolve('77'), { instanceOf: UsageError }, key).where, flagName(key))
    }
  })
}

// The check is seen to fail.
const wrongRows: [row: string[], complaint: RegExp][] = [
  [['--made_up', 'off', '`1`', 'same', ''], /--made_up: is no option here/],
  [['--max_seq_len', '`512`', '`256`', 'same', ''], /default 512, the table says `256`/],
  [['--max_seq_len', '`256`', '`512`', 'same', ''], /differs, the table says same/],
  [['--dtype', '`fp16`', '`fp32`', 'differs', ''], /differs without a reason/],
  [['--max_seq_len', '`512`', '-', 'not there', ''], /default 512, the table says -/],
  [['--zero_stage', '`0`', '`0`', 'same', ''], /comes later, the table says same/],
  [['--zero_stage', '`0`', '`0`, `1`', 'no-op', 'comes with ZeRO sharding'], /accepts 0, the table says `0`, `1`/],
  [['--deepspeed', 'off', '-', 'not there', ''], /comes later, the table says not there/],
  [['--eot_token', 'none', 'none', 'no-op', 'a detail of --add-eot-token, which is off'], /accepts any, the table says none/],
  [['--zero_stage', '`0`', '`0`', 'no-op', 'comes with LoRA'], /comes with ZeRO sharding, the table says comes with LoRA/],
]
for (const [row, complaint] of wrongRows) {
  test(`seen to fail: ${row.join(' | ')}`, (t) => {
    t.regex(complaints((sftOptions as OptionTable)[keyOf(row[0]!)], row).join('\n'), complaint)
  })
}
