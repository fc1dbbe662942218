// Options of `threefold train`: what the three steps share, once; what may differ, for each step.
import { option } from '../base/options.js'
import type { OptionTable } from '../base/options.js'
import { compatOptions, dataOptions, laterOptions, machineOptions, outputOptions, ppoOptions, rewardOptions, saveOptions, sftOptions } from './options.js'

const SHARDING = 'ZeRO sharding'

/** The options of a stage that come with a later version: as DeepSpeed-Chat's programs, `train` takes them without a prefix. */
function laterOf(table: OptionTable): OptionTable {
  return Object.fromEntries(Object.entries(table).filter(([, o]) => o.kind === 'later'))
}

const { outputDir: _o, ...traces } = outputOptions

export const pipelineOptions = {
  actorModelNameOrPath: option.requiredText('the base model: folder in the Hugging Face layout, hub id, or a size of OPT such as 1.3b'),
  rewardModelNameOrPath: option.optionalText('where the reward model starts; without it the SFT model'),
  step: option.texts('which steps to run, of 1 (SFT), 2 (reward), 3 (PPO); without it all; earlier ones are taken from the output folder'),
  ...dataOptions,
  dataPath: { ...option.texts(dataOptions.dataPath.help), default: ['Dahoas/rm-static'] as readonly string[] },
  dataSplit: option.text('2,4,4', 'shares of the rows for SFT, reward and PPO'),
  ...machineOptions,
  outputDir: option.text('./output', 'folder of the run: sft, reward and ppo are made in it'),
  ...traces,
  ...saveOptions,
  ...laterOptions,
  ...(laterOf(ppoOptions) as Record<never, never>),
  ...compatOptions,
  actorZeroStage: option.later(0, SHARDING, [0, '']),
  rewardZeroStage: option.later(0, SHARDING, [0, '']),
  deploymentType: option.later('single_gpu', 'the launcher', ['single_gpu', 'single_node']),
}

/** The step's own options: neither shared nor a path nor for a later version. */
function ownOptions(table: OptionTable): OptionTable {
  const shared = new Set([...Object.keys(pipelineOptions), 'modelNameOrPath', 'criticModelNameOrPath'])
  return Object.fromEntries(Object.entries(table).filter(([key]) => !shared.has(key)))
}

export const stepOptions = { sft: ownOptions(sftOptions), reward: ownOptions(rewardOptions), ppo: ownOptions(ppoOptions) }
export type StepName = keyof typeof stepOptions

/** "sft" and "learningRate" -> "sftLearningRate"; a name that begins with the step's (ppoEpochs) stays. */
export function prefixedKey(step: StepName, key: string): string {
  return new RegExp(`^${step}[A-Z]`).test(key) ? key : step + key[0]!.toUpperCase() + key.slice(1)
}

/** One flat table for the command line: --sft-learning-rate, --reward-num-train-epochs, --ppo-kl-coef. */
export const trainFlags: OptionTable = Object.assign(
  {},
  pipelineOptions,
  ...Object.entries(stepOptions).map(([step, table]) =>
    Object.fromEntries(Object.entries(table).map(([key, o]) => [prefixedKey(step as StepName, key), { ...o, help: `${step}: ${o.help}` }])),
  ),
) as OptionTable

/** The flat names as what train() takes: shared ones as they are, a step's in an object of their own. */
export function nested(flat: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  const steps: Record<string, Record<string, unknown>> = {}
  const places = new Map<string, [StepName, string]>()
  for (const [step, table] of Object.entries(stepOptions) as [StepName, OptionTable][]) for (const key of Object.keys(table)) places.set(prefixedKey(step, key), [step, key])
  for (const [name, value] of Object.entries(flat)) {
    const place = places.get(name)
    if (place) (steps[place[0]] ??= {})[place[1]] = value
    else out[name] = value
  }
  return { ...out, ...steps }
}
