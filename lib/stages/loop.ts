// What the stages that train one model share: what they start with, the loop over optimizer steps, the end.
import { fail } from '../base/errors.js'
import type { Metrics, Run } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { RunCheckpoint } from '../checkpoint/runCheckpoint.js'
import type { Snapshot } from '../checkpoint/snapshot.js'
import type { RowList } from '../data/rowList.js'
import { openStageData } from '../data/stageData.js'
import type { RowKind } from '../data/tokenize.js'
import { Trainer } from '../engine/trainer.js'
import type { StepReport, TrainerOptions } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import type { HeadKind } from '../model/spec.js'
import { Scope } from '../tensor/scope.js'
import { readRows } from './rows.js'
import type { RowOptions } from './rows.js'
import type { LoopOptions, MachineOptions } from './shared.js'
import type { Saves } from './saves.js'
import type { LoraSettings } from './openModel.js'
import { Throughput, hubHooks, loadModel, openDevice, saveFactors, saveModel, stepsOf, totalSteps } from './shared.js'

export interface StageOptions extends RowOptions, MachineOptions {
  modelNameOrPath: string
  maxSeqLen: number
  gradientCheckpointing: boolean
  loraDim: number
  loraModuleName: readonly string[]
  loraAlpha: number
  loraDropout: number
  onlyOptimizeLora: boolean
  outputDir: string | null
}

export interface StageKind<Row> {
  /** Of --data-split. */
  step: 1 | 2 | 3
  head: HeadKind
  rows: RowKind<Row>
  /** Every token but the first counts. */
  countAll?: boolean
}

/** A model on its device and the rows for it; `using` frees both. */
export interface OpenStage<Row> extends Disposable {
  model: LoadedModel
  train: RowList<Row>
  held: RowList<Row>
}

/** Finds the stage's rows, loads the model, reads and tokenises, and says what was dropped. Errors: as each of these. */
export async function openStage<Row>(run: Run, options: StageOptions, kind: StageKind<Row>): Promise<OpenStage<Row>> {
  const data = await openStageData(options, kind.step, hubHooks(run.hooks))
  const scope = new Scope()
  try {
    const device = scope.own(openDevice(options))
    const model = scope.own(await loadModel(device, options.modelNameOrPath, options, run.hooks, { head: kind.head, positions: options.maxSeqLen, lora: loraOf(options) }))
    const { tokenizer, decoder } = model
    decoder.gradientCheckpointing = options.gradientCheckpointing
    const limits = { vocabSize: decoder.spec.vocab, maxSeqLen: Math.min(options.maxSeqLen, decoder.maxPositions), ...(kind.countAll !== undefined && { countAll: kind.countAll }) }
    const { train, held } = await readRows(run, data, kind.rows, { tokenizer, ...limits }, options)
    scope.own(train)
    scope.own(held)
    return { model, train, held, [Symbol.dispose]: () => scope.dispose() }
  } catch (error) {
    scope.dispose()
    throw error
  }
}

export interface TrainLoopOptions extends TrainerOptions, LoopOptions {
  perDeviceTrainBatchSize: number
  gradientAccumulationSteps: number
  evalInterval: number
  dropout: number
  seed: number
  /** A line for each step, besides the progress line. */
  printLoss?: boolean
}

/** One optimizer step, as the loop logs it. */
export interface LoopStep {
  report: StepReport & { loss: number }
  /** Tokens that went through the model. */
  tokens: number
  metrics: Metrics
  /** For the progress line, behind the loss. */
  fields: string[]
}

/** What a stage keeps in checkpoints besides its model and the loop. */
export interface KeptBesides {
  /** Before the first step of this process; null where the run starts anew. */
  begin(resumed: RunCheckpoint | null): Promise<void>
  parts(): Record<string, Snapshot>
}

export interface TrainLoop<E> {
  decoder: Decoder
  kept?: KeptBesides
  /** How many rows (or packs) an epoch has. */
  rows: number
  evaluate(step: number): Promise<E | null>
  step(trainer: Trainer, chosen: Int32Array): Promise<LoopStep>
}

/** A run and what saves it. */
export interface Training {
  run: Run
  saves: Saves
}

/**
 * Evaluates, trains all steps, evaluates again; goes on where a checkpoint was taken. Ctrl-C ends it after the step it is
 * in. Error: a checkpoint of other rows or of another model.
 */
export async function trainLoop<E>({ run, saves }: Training, { decoder, kept, rows, evaluate, step }: TrainLoop<E>, options: TrainLoopOptions): Promise<{ before: E | null; after: E | null }> {
  const perStep = options.perDeviceTrainBatchSize * options.gradientAccumulationSteps
  const total = totalSteps(rows, perStep, options)
  const trainer = new Trainer(decoder, options, total, { p: options.dropout, seed: options.seed })
  try {
    const resumed = saves.begin(decoder.device)
    if (resumed) await trainer.restore(await resumed.part('model'))
    const stored = resumed && loopState<E>(resumed, rows)
    await kept?.begin(resumed)
    const loop = stored ?? { rows, before: await evaluate(0) }
    const snapshot = (): Record<string, Snapshot> => ({ model: trainer.snapshot(), loop: { numbers: { ...loop }, tensors: [] }, ...kept?.parts() })
    const throughput = new Throughput()
    run.progress.start(resumed?.state.step)
    let done = resumed?.state.step ?? 0
    for (const chosen of stepsOf(rows, perStep, options, done)) {
      if (run.stopped) break
      done++
      const { report, tokens, metrics, fields } = await step(trainer, chosen)
      const { seconds, tokensPerSecond } = throughput.tick(tokens)
      run.log(done, {
        loss: report.loss,
        ...metrics,
        grad_norm: report.gradNorm,
        learning_rate: report.learningRate,
        num_tokens: tokens,
        step_time: seconds,
        'perf/throughput': tokensPerSecond,
        skipped_steps: trainer.skipped,
        ...(report.lossScale !== null && { loss_scale: report.lossScale }),
      })
      if (options.printLoss === true) run.progress.note(`${run.stage} step ${done} of ${total}: loss ${report.loss}`)
      run.progress.update(run.stage, done, total, [...fields, `${Math.round(tokensPerSecond)} tokens/s`])
      if (options.evalInterval > 0 && done % options.evalInterval === 0 && done < total) await evaluate(done)
      await saves.after(done, snapshot)
    }
    if (run.stopped) await saves.now(done, snapshot)
    // stopped: the model is saved first, nobody waits for figures
    return { before: loop.before, after: run.stopped ? null : await evaluate(done) }
  } finally {
    trainer.dispose()
  }
}

function loopState<E>(checkpoint: RunCheckpoint, rows: number): { rows: number; before: E | null } {
  const loop = checkpoint.numbers['loop'] as { rows: number; before: E | null }
  expectSameRows(checkpoint, loop.rows, rows)
  return loop
}

/** The order of rows follows from how many there are: with others, a run does not go on but wanders off. */
export function expectSameRows(checkpoint: RunCheckpoint, then: number, now: number, flag = '--data-path'): void {
  if (then !== now) fail(flag, `the ${then} rows of the run that ${checkpoint.folder} is of`, `${now}`, 'the same data to go on, or --resume never to start anew')
}

type LoraFlags = Pick<StageOptions, 'loraDim' | 'loraModuleName' | 'loraAlpha' | 'loraDropout' | 'onlyOptimizeLora'>

export const loraOf = ({ loraDim: dim, loraModuleName: modules, loraAlpha: alpha, loraDropout: dropout, onlyOptimizeLora: only }: LoraFlags): LoraSettings => ({ dim, modules, alpha, dropout, only })

/** Saves D/model, and D/adapter where factors are all that was trained. Errors: Interrupted, with the folder, where Ctrl-C ended the training. */
export async function finishStage(run: Run, model: LoadedModel, { outputDir, modelNameOrPath }: StageOptions): Promise<string | null> {
  const folder = await saveModel(model, outputDir)
  await saveFactors(run, model, modelNameOrPath, outputDir)
  run.throwIfStopped(folder)
  return folder
}
