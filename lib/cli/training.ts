// pretrain, sft, reward, dpo, ppo, train.
import { short } from '../base/progress.js'
import type { DpoResult } from '../stages/dpo.js'
import type { StagePlan } from '../stages/dryRun.js'
import { dpoOptions, ppoOptions, pretrainOptions, rewardOptions, sftOptions } from '../stages/options.js'
import type { PpoResult } from '../stages/ppo.js'
import type { RewardResult } from '../stages/reward.js'
import type { LanguageResult } from '../stages/sft.js'
import type { TrainResult } from '../stages/train.js'
import { resumeCheckOptions } from '../stages/useOptions.js'
import { nested, trainFlags } from '../stages/trainOptions.js'
import type { CommandSpec, Context, Outcome } from './command.js'
import { asGiven } from './command.js'
import { bytes, change, duration, percent, table } from './table.js'

const style = ({ hooks }: Context) => ({ color: process.stdout.isTTY === true, hooks })

export const pretrain: CommandSpec = {
  name: 'pretrain',
  summary: 'step 0: next-token training on {text} rows',
  options: pretrainOptions,
  training: true,
  async run(given, context) {
    if (context.dryRun) return planned([await (await import('../stages/dryRun.js')).planPretrain(asGiven(given), style(context))])
    const result = await (await import('../stages/pretrain.js')).pretrain(asGiven(given), context.hooks)
    return { json: result, text: languageText('pretrain', result) }
  },
}

export const sft: CommandSpec = {
  name: 'sft',
  summary: 'step 1: supervised fine-tuning on {prompt, response} or {prompt, chosen, rejected} rows',
  options: sftOptions,
  training: true,
  async run(given, context) {
    if (context.dryRun) return planned([await (await import('../stages/dryRun.js')).planSft(asGiven(given), style(context))])
    const result = await (await import('../stages/sft.js')).sft(asGiven(given), context.hooks)
    return { json: result, text: languageText('sft', result) }
  },
}

export const reward: CommandSpec = {
  name: 'reward',
  summary: 'step 2: a reward model from {prompt, chosen, rejected} rows',
  options: rewardOptions,
  training: true,
  async run(given, context) {
    if (context.dryRun) return planned([await (await import('../stages/dryRun.js')).planReward(asGiven(given), style(context))])
    const result = await (await import('../stages/reward.js')).reward(asGiven(given), context.hooks)
    return { json: result, text: rewardText(result) }
  },
}

export const dpo: CommandSpec = {
  name: 'dpo',
  summary: 'in place of steps 2 and 3: direct preference optimisation on {prompt, chosen, rejected} rows',
  options: dpoOptions,
  training: true,
  async run(given, context) {
    if (context.dryRun) return planned([await (await import('../stages/dryRun.js')).planDpo(asGiven(given), style(context))])
    const result = await (await import('../stages/dpo.js')).dpo(asGiven(given), context.hooks)
    return { json: result, text: dpoText(result) }
  },
}

export const ppo: CommandSpec = {
  name: 'ppo',
  summary: 'step 3: PPO (or GRPO, RLOO) against the reward model or a function',
  options: ppoOptions,
  aliases: { 'reward-model-name-or-path': 'critic-model-name-or-path' },
  training: true,
  async run(given, context) {
    if (context.dryRun) return planned([await (await import('../stages/dryRun.js')).planPpo(asGiven(given), style(context))])
    const result = await (await import('../stages/ppo.js')).ppo(asGiven(given), context.hooks)
    return { json: result, text: ppoText(result) }
  },
}

export const resumeCheck: CommandSpec = {
  name: 'resume-check',
  summary: 'train on from the last but one checkpoint of a run and compare with the last, bit for bit',
  options: resumeCheckOptions,
  positional: 'run',
  async run(given, { hooks }) {
    const result = await (await import('../stages/resumeCheck.js')).resumeCheck(asGiven(given), hooks)
    const { from, to, metrics, samples, tensorFiles } = result
    return { json: result, text: `from step ${from} to ${to}: ${tensorFiles} files of tensors, ${metrics} lines of metrics and ${samples} of samples are bit-equal` }
  },
}

export const train: CommandSpec = {
  name: 'train',
  summary: 'the three steps in one command',
  options: trainFlags,
  aliases: { 'actor-model': 'actor-model-name-or-path', 'model-name-or-path': 'actor-model-name-or-path', 'reward-model': 'reward-model-name-or-path' },
  training: true,
  async run(given, context: Context) {
    const { planTrain, train: run } = await import('../stages/train.js')
    const settings = asGiven<Parameters<typeof run>[0]>(nested(given))
    if (context.dryRun) return planned(await planTrain(settings, style(context)))
    const result = await run(settings, context.hooks)
    return { json: result, text: trainText(result) }
  },
}

function languageText(stage: string, { model, before, after }: LanguageResult): string {
  return table([
    [stage, 'held-out loss', change(before?.loss, after?.loss)],
    ['', 'held-out perplexity', change(before?.perplexity, after?.perplexity)],
    ['', 'model', model ?? 'not kept (no --output-dir)'],
  ])
}

type Judged = { accuracy: number; interval: readonly [number, number]; pairs: number; rows?: number }

function accuracyText({ after }: { after: Judged | null }): string {
  if (!after || after.rows === 0) return '-'
  const { accuracy, interval, pairs, rows = pairs } = after
  return `${percent(accuracy)} (95 % interval ${percent(interval[0])} to ${percent(interval[1])}, ${pairs === rows ? '' : `${rows} rows of `}${pairs} pairs)`
}

function rewardText(result: RewardResult): string {
  const { model, before, after } = result
  return table([
    ['reward', 'held-out accuracy', accuracyText(result)],
    ['', 'held-out loss', change(before?.loss, after?.loss)],
    ['', 'calibration error', change(before?.calibration?.error, after?.calibration?.error)],
    ['', 'mean score', after && after.rows > 0 ? `chosen ${short(after.chosen)}, rejected ${short(after.rejected)}` : '-'],
    ...(after?.ensemble ? [['', 'agreement', `${percent(after.ensemble.agreement)} of pairs, together ${percent(after.ensemble.accuracy)} right`]] : []),
    ['', 'model', model ?? 'not kept (no --output-dir)'],
  ])
}

function dpoText(result: DpoResult): string {
  const { model, before, after } = result
  return table([
    ['dpo', 'held-out accuracy', accuracyText(result)],
    ['', 'held-out loss', change(before?.loss, after?.loss)],
    ['', 'implicit reward', after ? `chosen ${short(after.chosen)}, rejected ${short(after.rejected)}` : '-'],
    ['', 'log-prob of chosen', change(before?.chosenLogprob, after?.chosenLogprob)],
    ['', 'model', model ?? 'not kept (no --output-dir)'],
  ])
}

function ppoText({ actor, critic, before, after }: PpoResult): string {
  return table([
    ['ppo', 'held-out score', scoreText(before, after)],
    ['', 'KL from the SFT model', after ? short(after.kl) : '-'],
    ['', 'actor', actor ?? 'not kept (no --output-dir)'],
    ...(critic ? [['', 'critic', critic]] : []),
  ])
}

function scoreText(before: PpoResult['before'], after: PpoResult['after']): string {
  if (!before || !after) return '-'
  return `${change(before.score, after.score)} (standard errors ${short(before.standardError)}, ${short(after.standardError)})`
}

function trainText({ sft: s, reward: r, ppo: p, seconds, outputDir }: TrainResult): string {
  const time = (step: keyof typeof seconds): string => duration(seconds[step] ?? 0)
  const rows = [['step', 'time', 'measured on held-out rows']]
  if (s) rows.push(['1 sft', time('sft'), `perplexity ${change(s.before?.perplexity, s.after?.perplexity)}`])
  if (r) rows.push(['2 reward', time('reward'), `accuracy ${accuracyText(r)}`])
  if (p) rows.push(['3 ppo', time('ppo'), `reward-model score ${scoreText(p.before, p.after)}, KL ${p.after ? short(p.after.kl) : '-'}`])
  const total = Object.values(seconds).reduce((a, b) => a + b, 0)
  return `${table(rows)}\ntotal ${duration(total)}; models in ${outputDir}`
}

function planned(plans: StagePlan[]): Outcome {
  return { json: plans.length === 1 ? plans[0] : plans, text: plans.map(planText).join('\n\n') }
}

function planText({ stage, options, model, memory, steps, train: rows, evalRows, skipped, preview }: StagePlan): string {
  const dropped = `${rows.droppedPrompt} with a prompt over the limit, ${rows.droppedAnswer} with an answer over the limit, ${rows.skipped + skipped} in which nothing counts`
  const { total, ...parts } = memory
  return [
    `${stage}: dry run, nothing is written`,
    '',
    ...Object.entries(options).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`),
    '',
    `model    ${model.family}, ${model.parameters} parameters, ${model.layers} layers, hidden ${model.hidden}, vocabulary ${model.vocab}`,
    `memory   ${bytes(total)}: ${Object.entries(parts).map(([name, n]) => `${name} ${bytes(n)}`).join(', ')}`,
    `rows     ${rows.kept} of ${rows.rows} for training (dropped: ${dropped}), ${evalRows} held out`,
    `steps    ${steps}`,
    `first rows, what counts in the loss ${process.stdout.isTTY ? 'in green' : 'between ⟦ ⟧'}:`,
    ...preview.map((text) => text.replace(/^/gm, '  ')),
  ].join('\n')
}
