// A ds_config.json as options: what of it has a meaning here is honoured, what would change something and is not there is refused
// by name, the rest is named in one note. Keys and meanings as in deepspeed/runtime/config.py; "auto" means the flag's value, as in
// transformers' integration.
import { UsageError, fail } from '../base/errors.js'
import { readJson } from '../base/files.js'
import { isJsonObject, kindOf } from '../base/json.js'
import type { Option, OptionTable, Resolved } from '../base/options.js'
import { flagName, givenInVain, resolveOptions, sameValue } from '../base/options.js'
import type { RunHooks } from '../base/run.js'

const rates = ['learningRate', 'actorLearningRate', 'criticLearningRate']
const decays = ['weightDecay', 'actorWeightDecay', 'criticWeightDecay']
const stages = ['zeroStage', 'actorZeroStage', 'criticZeroStage']
const microBatch = ['perDeviceTrainBatchSize', 'perDeviceTrainingBatchSize']
const ADAM = /^(fused)?adamw?$/i
/** Their schedules under transformers' names. */
const schedules: Readonly<Record<string, string>> = { WarmupLR: 'constant_with_warmup', WarmupDecayLR: 'linear', WarmupCosineLR: 'cosine' }

type Values = Record<string, unknown>
type Reader = (value: unknown, all: ReadonlyMap<string, unknown>) => Values

const to = (keys: readonly string[]): Reader => (value) => Object.fromEntries(keys.map((key) => [key, value]))
const when = (wanted: unknown, values: Values): Reader => (value) => (value === wanted ? values : {})
const offloaded: Reader = (value) => (value === 'none' || value === null ? {} : { offload: true })

/** What a key sets; those of two precisions, of the schedule's name and of the batch of a whole step are read together below. */
const readers: Readonly<Record<string, Reader>> = {
  train_micro_batch_size_per_gpu: to(microBatch),
  gradient_accumulation_steps: to(['gradientAccumulationSteps']),
  train_batch_size: () => ({}),
  gradient_clipping: to(['maxGradNorm']),
  'optimizer.type': () => ({}),
  'optimizer.params.lr': to(rates),
  'optimizer.params.betas': (value) => {
    const [adamBeta1, adamBeta2] = Array.isArray(value) ? (value as unknown[]) : []
    return { adamBeta1, adamBeta2 }
  },
  'optimizer.params.eps': to(['adamEps']),
  'optimizer.params.weight_decay': to(decays),
  'scheduler.type': (value) => ({ lrSchedulerType: schedules[String(value)] }),
  'scheduler.params.warmup_max_lr': to(rates),
  'scheduler.params.warmup_num_steps': to(['numWarmupSteps']),
  'fp16.enabled': when(true, { dtype: 'fp16' }),
  'bf16.enabled': when(true, { dtype: 'bf16' }),
  'bfloat16.enabled': when(true, { dtype: 'bf16' }),
  zero_optimization: when(true, to(stages)(1, new Map())),
  'zero_optimization.stage': to(stages),
  'zero_optimization.cpu_offload': when(true, { offload: true }),
  'zero_optimization.offload_optimizer.device': offloaded,
  'zero_optimization.offload_param.device': offloaded,
  'hybrid_engine.enabled': to(['enableHybridEngine']),
  'hybrid_engine.inference_tp_size': to(['inferenceTpSize']),
  'tensorboard.enabled': to(['enableTensorboard']),
  'tensorboard.output_path': (value, all) => ({ tensorboardPath: [value, all.get('tensorboard.job_name')].filter(Boolean).join('/') || null }),
  'tensorboard.job_name': () => ({}),
}

/** Keys that would change what is computed, with the only value that is there. */
const only: Readonly<Record<string, unknown>> = {
  'optimizer.params.adam_w_mode': true,
  'optimizer.params.bias_correction': true,
  'optimizer.params.amsgrad': false,
  'scheduler.params.warmup_min_lr': 0,
  'scheduler.params.warmup_min_ratio': 0,
  'amp.enabled': false,
  'progressive_layer_drop.enabled': false,
  'curriculum_learning.enabled': false,
  'data_efficiency.enabled': false,
}

/** Every key that is not named in the note. */
export const deepspeedKeys = [...Object.keys(readers), ...Object.keys(only)]

/** "optimizer.params.lr" -> 1e-5, for every value that is no object and not "auto". */
function leaves(json: Readonly<Record<string, unknown>>, path = ''): [string, unknown][] {
  return Object.entries(json).flatMap(([key, value]): [string, unknown][] => {
    const at = path + key
    if (isJsonObject(value)) return leaves(value, `${at}.`)
    return value === 'auto' ? [] : [[at, value]]
  })
}

interface Source {
  file: string
  table: OptionTable
  given: Readonly<Values>
  /** An option's flag, as errors name it. */
  nameOf: (key: string) => string
}

/** Rows of a step = rows of a micro-batch x micro-batches x processes, of which there is one; the two that are there make the third. */
function batchOf(total: unknown, values: Values, { file, table, given }: Source): Values {
  const microKey = microBatch.find((key) => key in table)
  if (total === undefined || microKey === undefined) return {}
  const known = (key: string): number | undefined => (values[key] ?? given[key]) === undefined ? undefined : Number(values[key] ?? given[key])
  const rows = Number(total)
  const [micro, steps] = [known(microKey), known('gradientAccumulationSteps')]
  const out = { [microKey]: micro ?? (steps === undefined ? rows : rows / steps), gradientAccumulationSteps: steps ?? (micro === undefined ? 1 : rows / micro) }
  const whole = Object.values(out).every((n) => Number.isInteger(n) && n > 0)
  if (!whole || out[microKey]! * out['gradientAccumulationSteps']! !== rows)
    throw new UsageError('--deepspeed-config', `train_batch_size in ${file} to be the rows of a micro-batch x gradient_accumulation_steps, on one process`, `${String(total)} with ${micro ?? '?'} x ${steps ?? '?'}`, 'more gradient_accumulation_steps for what other GPUs did, or leaving train_batch_size out')
  return out
}

/** What the file sets of `table`, and where it says so. */
function valuesOf(all: ReadonlyMap<string, unknown>, source: Source): { values: Values; from: Map<string, string> } {
  const { file, table } = source
  const refuse = (key: string, expected: string, cure: string): never => fail('--deepspeed-config', `${expected} in ${file}`, `${JSON.stringify(all.get(key))} for ${key}`, cure)
  const optimizer = all.get('optimizer.type')
  if (optimizer !== undefined && !ADAM.test(String(optimizer))) refuse('optimizer.type', 'Adam or AdamW', 'AdamW, or leaving optimizer out')
  const schedule = all.get('scheduler.type')
  if (schedule !== undefined && !(String(schedule) in schedules)) refuse('scheduler.type', Object.keys(schedules).join(', '), 'one of these, or --lr-scheduler-type without a scheduler in the file')
  for (const [key, value] of Object.entries(only)) if (all.has(key) && all.get(key) !== value) refuse(key, String(value), `${String(value)}, or leaving it out`)
  if (all.get('fp16.enabled') === true && (all.get('bf16.enabled') ?? all.get('bfloat16.enabled')) === true) refuse('fp16.enabled', 'fp16 or bf16, not both,', 'one of them')
  const [values, from]: [Values, Map<string, string>] = [{}, new Map()]
  for (const [key, value] of all) {
    for (const [name, v] of Object.entries(readers[key]?.(value, all) ?? {})) {
      if (!(name in table)) continue
      if (from.has(name) && !sameValue(values[name], v)) refuse(key, `one value for ${source.nameOf(name)}`, `the same as ${from.get(name)}`)
      values[name] = v ?? null
      from.set(name, key)
    }
  }
  for (const [name, v] of Object.entries(batchOf(all.get('train_batch_size'), values, source))) {
    if (!from.has(name)) from.set(name, 'train_batch_size')
    values[name] = v
  }
  return { values, from }
}

/** What the file says and means nothing here. */
function noteOf(all: ReadonlyMap<string, unknown>, file: string): string | null {
  const unused = [...all.keys()].filter((key) => !deepspeedKeys.includes(key))
  const linear = all.has('scheduler.type') && all.get('scheduler.params.warmup_type') !== 'linear' ? ['the warm-up is linear, not logarithmic'] : []
  const parts = [...(unused.length > 0 ? [`no meaning here have ${unused.join(', ')}`] : []), ...linear]
  return parts.length > 0 ? `${file}: ${parts.join('; ')}` : null
}

/**
 * The given options with what the file of --deepspeed-config adds for `table`; `note` names what it says in vain. Errors: a file
 * that is none or torn, a value that is not there or out of range, one that contradicts a given flag.
 */
export async function withDeepspeedConfig(table: OptionTable, given: Readonly<Values>, file: unknown, nameOf = flagName): Promise<{ given: Values; note: string | null }> {
  if (file === undefined || file === null) return { given: { ...given }, note: null }
  if (typeof file !== 'string' || file === '') throw new UsageError('--deepspeed-config', 'the path of a JSON file', JSON.stringify(file), '--deepspeed-config ds_config.json')
  const json = await readJson(file)
  if (!isJsonObject(json)) fail('--deepspeed-config', `an object in ${file}`, kindOf(json), 'a ds_config.json')
  const all = new Map(leaves(json))
  const { values, from } = valuesOf(all, { file, table, given, nameOf })
  for (const [name, value] of Object.entries(values)) {
    const key = from.get(name)!
    try {
      resolveOptions('deepspeed-config', { [name]: table[name] as Option<unknown> }, { [name]: value })
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      throw new UsageError(nameOf(name), error.expected, `${error.received} from ${key} in ${file}`, error.cure.endsWith('--help') ? `another value for ${key}` : error.cure, { cause: error })
    }
    if (given[name] !== undefined && !sameValue(value, given[name]))
      throw new UsageError(nameOf(name), `${JSON.stringify(value)} as ${key} in ${file} has it`, JSON.stringify(given[name]), `"auto" for ${key}, or leaving the flag out`)
  }
  return { given: { ...given, ...values }, note: noteOf(all, file) }
}

/** As resolveOptions, with what --deepspeed-config adds. */
export async function resolveStage<T extends OptionTable>(where: string, table: T, given: object, { progress }: RunHooks): Promise<Resolved<T>> {
  const all = given as Values
  const { given: merged, note } = await withDeepspeedConfig(table, all, all['deepspeedConfig'])
  if (note !== null) progress.note(`${where}: ${note}`)
  const resolved = resolveOptions(where, table, merged)
  const vain = givenInVain(table, merged, resolved)
  if (vain !== null) progress.note(`${where}: ${vain}`)
  return resolved
}
