// docs/deepspeed-chat.md against the option tables: every flag of DeepSpeed-Chat's four programs, every option of ours,
// each with its true default and state.
import { readFileSync } from 'node:fs'

import test from 'ava'

import { flagName } from '../../../lib/base/options.js'
import type { Option, OptionTable } from '../../../lib/base/options.js'
import { ppoOptions, pretrainOptions, rewardOptions, sftOptions } from '../../../lib/stages/options.js'
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
  { title: 'Step 2 by DPO', table: {}, flags: `${single} offload_reference_model beta label_smoothing print_loss`.split(' ') },
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
  const accepted = new Set(o.noops!.map((n) => (n === 'null' || n === 'None' ? 'none' : shown(n))))
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

// The check is seen to fail.
const wrongRows: [row: string[], complaint: RegExp][] = [
  [['--made_up', 'off', '`1`', 'same', ''], /--made_up: is no option here/],
  [['--max_seq_len', '`512`', '`256`', 'same', ''], /default 512, the table says `256`/],
  [['--max_seq_len', '`256`', '`512`', 'same', ''], /differs, the table says same/],
  [['--dtype', '`fp16`', '`fp32`', 'differs', ''], /differs without a reason/],
  [['--max_seq_len', '`512`', '-', 'not there', ''], /default 512, the table says -/],
  [['--zero_stage', '`0`', '`0`', 'same', ''], /comes later, the table says same/],
  [['--zero_stage', '`0`', '`0`, `1`', 'no-op', 'comes with ZeRO sharding'], /accepts 0, the table says `0`, `1`/],
  [['--zero_stage', '`0`', '`0`', 'no-op', 'comes with LoRA'], /comes with ZeRO sharding, the table says comes with LoRA/],
]
for (const [row, complaint] of wrongRows) {
  test(`seen to fail: ${row.join(' | ')}`, (t) => {
    t.regex(complaints((sftOptions as OptionTable)[keyOf(row[0]!)], row).join('\n'), complaint)
  })
}
