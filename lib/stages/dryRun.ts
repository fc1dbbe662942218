// `--dry-run`: what a stage would do, without weights in memory and without a folder of the run.
import { fail } from '../base/errors.js'
import type { Given } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { tokenizerFor } from '../checkpoint/model.js'
import { packByTokens } from '../data/packing.js'
import { previewAnswers, previewPrompt, previewRow } from '../data/preview.js'
import type { TokenReport } from '../data/records.js'
import { rowsFrom } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { openStageData } from '../data/stageData.js'
import { answerKind, pairKind, promptKind, rankedKind, textKind } from '../data/tokenize.js'
import type { MakerOptions, RowKind } from '../data/tokenize.js'
import type { Tokenizer } from '../data/tokenizer.js'
import type { DecoderSpec } from '../model/spec.js'
import type { DType } from '../tensor/device.js'
import { Scope } from '../tensor/scope.js'
import { resolveStage } from './deepspeedConfig.js'
import { refuseContradictions } from './dpo.js'
import { DpoReference } from './dpoReference.js'
import { parameterCount, planMemory } from './memory.js'
import type { MemoryPlan, PlannedModel } from './memory.js'
import { dpoOptions, ppoOptions, pretrainOptions, rewardOptions, sftOptions } from './options.js'
import { loraOf } from './loop.js'
import { actorLora, criticLora, wantedModels } from './ppoModels.js'
import { checkPpo } from './ppo.js'
import { expectRank } from './openModel.js'
import type { LoraSettings } from './openModel.js'
import { PretrainingMix } from './pretrainingMix.js'
import { rowsOf } from './rows.js'
import type { RowOptions } from './rows.js'
import { hubHooks, loadSpec, silent, totalSteps } from './shared.js'

export interface StagePlan {
  stage: string
  /** The resolved configuration. */
  options: Record<string, unknown>
  model: { family: string; parameters: number; layers: number; hidden: number; vocab: number }
  memory: MemoryPlan
  /** Optimizer steps. */
  steps: number
  train: TokenReport
  /** Held-out rows. */
  evalRows: number
  /** Transcripts without a shared "Assistant:". */
  skipped: number
  /** The first three rows, what counts in the loss between brackets or in green. */
  preview: string[]
}

export interface PreviewStyle {
  /** True on a terminal. */
  color?: boolean
  /** For what is downloaded from the hub. */
  hooks?: RunHooks
}

interface Source {
  spec: DecoderSpec
  tokenizer: Tokenizer | null
  maxSeqLen: number
}

/** `lora`: what it would be trained with. */
async function open(idOrPath: string, maxSeqLen: number, hooks: RunHooks, lora?: LoraSettings): Promise<Source> {
  const { folder, spec, adapter } = await loadSpec(idOrPath, hooks)
  if (adapter && lora && lora.dim > 0) expectRank(adapter, lora)
  return { spec, tokenizer: await tokenizerFor(folder, spec), maxSeqLen: Math.min(maxSeqLen, spec.maxPositions) }
}

const lengthsOf = (rows: RowList<unknown>): number[] => Array.from({ length: rows.length }, (_, i) => rows.tokens(i))

/** Tokens of the `count` longest rows: no micro-batch is larger. */
function largest(lengths: number[], count: number): number {
  return lengths
    .sort((a, b) => b - a)
    .slice(0, count)
    .reduce((sum, n) => sum + n, 0)
}

interface Planned<Row> {
  stage: string
  options: Record<string, unknown> & RowOptions
  step: 1 | 2 | 3
  source: Source
  kind: RowKind<Row>
  limits: Omit<MakerOptions, 'vocabSize'>
  show: (row: Row, options: { tokenizer: Tokenizer | null; color: boolean }) => string
  /** What the kept rows need. */
  need: (rows: RowList<unknown>) => { memory: MemoryPlan; steps: number }
  style: PreviewStyle
}

async function plan<Row>({ stage, options, step, source, kind, limits, show, need, style }: Planned<Row>): Promise<StagePlan> {
  const { spec, tokenizer } = source
  const data = await openStageData(options, step, hubHooks(style.hooks ?? silent))
  const rows = await rowsOf(data, kind, { tokenizer, vocabSize: spec.vocab, ...limits }, options)
  using scope = new Scope()
  const train = scope.own(rows.train)
  const held = scope.own(rows.held)
  return {
    stage,
    options,
    model: { family: spec.family, parameters: parameterCount(spec), layers: spec.layers, hidden: spec.hidden, vocab: spec.vocab },
    ...need(train),
    train: rows.reports.train,
    evalRows: held.length,
    skipped: rows.skipped,
    preview: rowsFrom(train, 0, 3).map((row) => show(row, { tokenizer, color: style.color ?? false })),
  }
}

const stepsFor = (rows: number, o: { perDeviceTrainBatchSize: number; gradientAccumulationSteps: number; numTrainEpochs: number; maxSteps: number; seed: number }): number =>
  totalSteps(rows, o.perDeviceTrainBatchSize * o.gradientAccumulationSteps, o)

export async function planPretrain(given: Given<typeof pretrainOptions>, style: PreviewStyle = {}): Promise<StagePlan> {
  const o = await resolveStage('pretrain', pretrainOptions, given, style.hooks ?? silent)
  const source = await open(o.modelNameOrPath, o.maxSeqLen, style.hooks ?? silent, loraOf(o))
  const { spec, maxSeqLen } = source
  const need = (rows: RowList<unknown>) => {
    const packs = packByTokens(rows, maxSeqLen).length
    const tokens = Math.min(packs, o.perDeviceTrainBatchSize) * maxSeqLen
    return { memory: planMemory([{ spec, head: 'logprob', trained: true, positions: o.maxSeqLen, gradientCheckpointing: o.gradientCheckpointing, lora: loraOf(o) }], o.dtype as DType, { tokens }), steps: stepsFor(packs, o) }
  }
  return plan({ stage: 'pretrain', options: o, step: 1, source, kind: textKind, limits: { maxSeqLen }, show: previewRow, need, style })
}

export async function planSft(given: Given<typeof sftOptions>, style: PreviewStyle = {}): Promise<StagePlan> {
  const o = await resolveStage('sft', sftOptions, given, style.hooks ?? silent)
  const source = await open(o.modelNameOrPath, o.maxSeqLen, style.hooks ?? silent, loraOf(o))
  const { spec, maxSeqLen } = source
  const need = (rows: RowList<unknown>) => {
    const tokens = largest(lengthsOf(rows), o.perDeviceTrainBatchSize)
    return { memory: planMemory([{ spec, head: 'logprob', trained: true, positions: o.maxSeqLen, gradientCheckpointing: o.gradientCheckpointing, lora: loraOf(o) }], o.dtype as DType, { tokens }), steps: stepsFor(rows.length, o) }
  }
  return plan({ stage: 'sft', options: o, step: 1, source, kind: answerKind, limits: { maxSeqLen, countAll: o.lossOn === 'all' }, show: previewRow, need, style })
}

export async function planReward(given: Given<typeof rewardOptions>, style: PreviewStyle = {}): Promise<StagePlan> {
  const o = await resolveStage('reward', rewardOptions, given, style.hooks ?? silent)
  const source = await open(o.modelNameOrPath, o.maxSeqLen, style.hooks ?? silent, loraOf(o))
  const { spec, maxSeqLen } = source
  const need = (rows: RowList<unknown>) => {
    const tokens = largest(lengthsOf(rows), o.perDeviceTrainBatchSize)
    return { memory: planMemory([{ spec, head: 'scalar', trained: true, positions: o.maxSeqLen, gradientCheckpointing: o.gradientCheckpointing, lora: loraOf(o) }], o.dtype as DType, { tokens }), steps: stepsFor(rows.length, o) }
  }
  return plan({ stage: 'reward', options: o, step: 2, source, kind: rankedKind, limits: { maxSeqLen }, show: previewAnswers(rankedKind.codec), need, style })
}

export async function planDpo(given: Given<typeof dpoOptions>, style: PreviewStyle = {}): Promise<StagePlan> {
  const hooks = style.hooks ?? silent
  const o = await resolveStage('dpo', dpoOptions, given, hooks)
  refuseContradictions(o)
  await DpoReference.check(o, hooks)
  const source = await open(o.modelNameOrPath, o.maxSeqLen, hooks, loraOf(o))
  const { spec, maxSeqLen } = source
  const reference = (await loadSpec(o.referenceModelNameOrPath ?? o.modelNameOrPath, hooks)).spec
  const need = (rows: RowList<unknown>) => {
    const models: PlannedModel[] = [{ spec, head: 'logprob', trained: true, positions: o.maxSeqLen, gradientCheckpointing: o.gradientCheckpointing, lora: loraOf(o) }]
    // one that is asked before training is gone when memory is most needed
    if (!o.referenceFree && !o.precomputeReference) models.push({ spec: reference, head: 'logprob', trained: false, positions: o.maxSeqLen })
    return { memory: planMemory(models, o.dtype as DType, { tokens: largest(lengthsOf(rows), o.perDeviceTrainBatchSize) }), steps: stepsFor(rows.length, o) }
  }
  return plan({ stage: 'dpo', options: o, step: 2, source, kind: pairKind, limits: { maxSeqLen }, show: previewAnswers(pairKind.codec), need, style })
}

/** Prompt and answer must fit the positions of every model that sees them. */
export function checkRoom(specs: readonly DecoderSpec[], prompt: number, answer: number, flags: string): void {
  const room = Math.min(...specs.map((s) => s.maxPositions))
  if (prompt + answer > room)
    fail('ppo', `prompts and answers of at most ${room} tokens together, as the models' positions allow`, `${prompt} + ${answer}`, `a smaller ${flags}`)
}

export async function planPpo(given: Given<typeof ppoOptions>, style: PreviewStyle = {}): Promise<StagePlan> {
  const o = await resolveStage('ppo', ppoOptions, given, style.hooks ?? silent)
  const source = await open(o.actorModelNameOrPath, Infinity, style.hooks ?? silent, actorLora(o))
  const { spec } = source
  await checkPpo(o)
  await PretrainingMix.find(o, style.hooks ?? silent)
  const wants = wantedModels(o)
  // the critic and the reward model, or whichever of them is wanted
  const critic = wants.critic || wants.reward ? (await open(o.criticModelNameOrPath!, Infinity, style.hooks ?? silent, criticLora(o))).spec : null
  const ensemble: DecoderSpec[] = []
  for (const folder of o.rewardEnsemble) ensemble.push((await open(folder, Infinity, style.hooks ?? silent)).spec)
  const judges = [...(critic ? [critic] : []), ...ensemble]
  checkRoom([spec, ...judges], o.maxPromptSeqLen, o.maxAnswerSeqLen, '--max-prompt-seq-len or --max-answer-seq-len')
  for (const [i, judge] of judges.entries())
    if (spec.vocab !== judge.vocab)
      fail('ppo', `a ${wants.reward ? 'reward model' : 'critic'} with the actor's vocabulary (${spec.vocab})`, `${judge.vocab} in ${[...(critic ? [o.criticModelNameOrPath] : []), ...o.rewardEnsemble][i]}`, 'a model with the same tokenizer')
  const need = (rows: RowList<unknown>) => {
    const lengths = lengthsOf(rows).map((n) => Math.min(n + o.maxAnswerSeqLen, spec.maxPositions))
    const longest = lengths.reduce((a, b) => Math.max(a, b), 1)
    const slots = Math.min(o.perDeviceGenerationBatchSize, rows.length) * o.groupSize
    const models: PlannedModel[] = [
      { spec, head: 'logprob', trained: true, gradientCheckpointing: o.actorGradientCheckpointing, lora: actorLora(o), averaged: o.enableEma },
      { spec, head: 'logprob', trained: false },
    ]
    if (critic && wants.critic) models.push({ spec: critic, head: 'scalar', trained: true, gradientCheckpointing: o.criticGradientCheckpointing, lora: criticLora(o) })
    if (wants.reward) for (const judge of judges) models.push({ spec: judge, head: 'scalar', trained: false })
    // answers to one prompt may fill a micro-batch
    const rollouts = lengths.flatMap((n) => new Array<number>(Math.min(o.groupSize, o.perDeviceTrainingBatchSize)).fill(n))
    const texts = o.unsupervisedDatasetName === null ? 0 : o.perDeviceTrainingBatchSize * Math.min(o.maxPromptSeqLen + o.maxAnswerSeqLen, spec.maxPositions)
    const memory = planMemory(models, o.dtype as DType, { tokens: Math.max(largest(rollouts, o.perDeviceTrainingBatchSize), texts), cache: { pages: slots * Math.ceil(longest / o.kvPageSize), pageSize: o.kvPageSize } })
    const perExperience = o.perDeviceGenerationBatchSize * o.generationBatches
    const updates = Math.ceil((perExperience * o.groupSize) / (o.perDeviceTrainingBatchSize * o.gradientAccumulationSteps)) * o.ppoEpochs
    const all = totalSteps(rows.length, perExperience, { ...o, maxSteps: 0 }) * updates
    return { memory, steps: o.maxSteps > 0 ? Math.min(o.maxSteps, all) : all }
  }
  return plan({ stage: 'ppo', options: o, step: 3, source, kind: promptKind, limits: { maxPromptLen: o.maxPromptSeqLen }, show: previewPrompt, need, style })
}
