// What the stages that train one model share: what they start with, the loop over optimizer steps, the end.
import type { Metrics, Run } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { RawRow } from '../data/records.js'
import { stageData } from '../data/stageData.js'
import type { StageDataOptions } from '../data/stageData.js'
import type { TokenLimits, TokenizeOptions, Tokenized } from '../data/tokenize.js'
import { Trainer } from '../engine/trainer.js'
import type { StepReport, TrainerOptions } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import type { HeadKind } from '../model/spec.js'
import { Scope } from '../tensor/scope.js'
import type { LoopOptions, MachineOptions } from './shared.js'
import { Throughput, hubHooks, loadModel, noteRows, openDevice, saveModel, stepsOf, totalSteps } from './shared.js'

export interface StageOptions extends StageDataOptions, MachineOptions {
  modelNameOrPath: string
  maxSeqLen: number
}

export interface StageKind<Row> {
  /** Of --data-split. */
  step: 1 | 2 | 3
  head: HeadKind
  rows(raw: readonly RawRow[], options: TokenizeOptions & TokenLimits & { maxSeqLen: number }): Promise<Tokenized<Row>>
}

/** A model on its device and the rows for it; `using` frees both. */
export interface OpenStage<Row> extends Disposable {
  model: LoadedModel
  train: Row[]
  held: Row[]
}

/** Reads the stage's rows, loads the model, tokenises, and says what was dropped. Errors: as each of these. */
export async function openStage<Row>(run: Run, options: StageOptions, kind: StageKind<Row>): Promise<OpenStage<Row>> {
  const data = await stageData(options, kind.step, hubHooks(run.hooks))
  const scope = new Scope()
  try {
    const device = scope.own(openDevice(options))
    const model = scope.own(await loadModel(device, options.modelNameOrPath, options, { head: kind.head, positions: options.maxSeqLen }))
    const { tokenizer, decoder } = model
    const tokenize = { tokenizer, vocabSize: decoder.spec.vocab, maxSeqLen: Math.min(options.maxSeqLen, decoder.maxPositions) }
    const train = await kind.rows(data.train, tokenize)
    const held = await kind.rows(data.eval, tokenize)
    noteRows(run, train.report, held.report, data)
    return { model, train: train.rows, held: held.rows, [Symbol.dispose]: () => scope.dispose() }
  } catch (error) {
    scope.dispose()
    throw error
  }
}

export interface TrainLoopOptions extends TrainerOptions, LoopOptions {
  perDeviceTrainBatchSize: number
  gradientAccumulationSteps: number
  evalInterval: number
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

export interface TrainLoop<E> {
  decoder: Decoder
  /** How many rows (or packs) an epoch has. */
  rows: number
  evaluate(step: number): Promise<E | null>
  step(trainer: Trainer, chosen: Int32Array): Promise<LoopStep>
}

/** Evaluates, trains all steps, evaluates again. Ctrl-C ends it after the step it is in. */
export async function trainLoop<E>(run: Run, { decoder, rows, evaluate, step }: TrainLoop<E>, options: TrainLoopOptions): Promise<{ before: E | null; after: E | null }> {
  const perStep = options.perDeviceTrainBatchSize * options.gradientAccumulationSteps
  const total = totalSteps(rows, perStep, options)
  const trainer = new Trainer(decoder, options, total)
  try {
    const before = await evaluate(0)
    const throughput = new Throughput()
    run.progress.start()
    let done = 0
    for (const chosen of stepsOf(rows, perStep, options)) {
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
      })
      run.progress.update(run.stage, done, total, [...fields, `${Math.round(tokensPerSecond)} tokens/s`])
      if (options.evalInterval > 0 && done % options.evalInterval === 0 && done < total) await evaluate(done)
    }
    // stopped: the model is saved first, nobody waits for figures
    return { before, after: run.stopped ? null : await evaluate(done) }
  } finally {
    trainer.dispose()
  }
}

/** Saves D/model. Errors: Interrupted, with the folder, where Ctrl-C ended the training. */
export async function finishStage(run: Run, model: LoadedModel, outputDir: string | null): Promise<string | null> {
  const folder = await saveModel(model, outputDir)
  run.throwIfStopped(folder)
  return folder
}
