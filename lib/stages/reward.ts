// Step 2, the reward model: backbone and scalar head, pairwise loss on the last token.
import type { Given, Resolved } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import { short } from '../base/progress.js'
import { RandomSequence, randomPurpose, streamNumber } from '../base/random.js'
import type { Run, RunHooks } from '../base/run.js'
import { RunningSums, wilsonInterval } from '../base/statistics.js'
import { packRows } from '../data/packing.js'
import type { PairRow } from '../data/records.js'
import { stageData } from '../data/stageData.js'
import { pairRows } from '../data/tokenize.js'
import { lastTokens, scoreValues, trainValues } from '../engine/logprobs.js'
import { Trainer } from '../engine/trainer.js'
import type { Decoder } from '../model/decoder.js'
import { pairwiseLoss } from '../rlhf/pairwiseLoss.js'
import { rewardOptions } from './options.js'
import { Throughput, describeReport, loadModel, openDevice, pieces, saveModel, silent, stepsOf, totalSteps, withRun } from './shared.js'

export type RewardOptions = Resolved<typeof rewardOptions>

export interface RewardEvaluation {
  loss: number
  /** Share of pairs in which the chosen answer scores higher, with its 95 % interval (Wilson). */
  accuracy: number
  interval: [number, number]
  /** Mean scores. */
  chosen: number
  rejected: number
  pairs: number
}

export interface RewardResult {
  model: string | null
  before: RewardEvaluation | null
  after: RewardEvaluation | null
}

/** Trains a reward model on {prompt, chosen, rejected} pairs (Ouyang et al. 2022). */
export async function reward(given: Given<typeof rewardOptions>, hooks: RunHooks = silent): Promise<RewardResult> {
  const options = resolveOptions('reward', rewardOptions, given)
  return withRun('reward', options, hooks, async (run) => {
    const data = await stageData(options, 2)
    using device = openDevice(options)
    using model = await loadModel(device, options.modelNameOrPath, options, { head: 'scalar', positions: options.maxSeqLen })
    const { tokenizer, decoder } = model
    const tokenize = { tokenizer, vocabSize: decoder.spec.vocab, maxSeqLen: Math.min(options.maxSeqLen, decoder.maxPositions) }
    const train = await pairRows(data.train, tokenize)
    const held = await pairRows(data.eval, tokenize)
    run.progress.note(describeReport('reward', train.report, data.skipped))

    const pairs = options.shuffleLabels ? shuffleLabels(train.rows, options.seed) : train.rows
    const evaluation = await trainPairs(run, decoder, pairs, held.rows, options)
    const folder = await saveModel(model, options.outputDir)
    run.throwIfStopped(folder)
    return { model: folder, ...evaluation }
  })
}

/** Swaps half the pairs at random: nothing is left to learn. */
function shuffleLabels(pairs: readonly PairRow[], seed: number): PairRow[] {
  const random = new RandomSequence(seed, streamNumber(randomPurpose.labels))
  return pairs.map((p) => (random.below(2) === 0 ? p : { ...p, chosen: p.rejected, rejected: p.chosen }))
}

/** Chosen answers first, then rejected ones, as one packed batch. */
const packPairs = (pairs: readonly PairRow[]) => packRows([...pairs.map((p) => p.chosen), ...pairs.map((p) => p.rejected)])

async function trainPairs(run: Run, decoder: Decoder, pairs: readonly PairRow[], evalPairs: readonly PairRow[], options: RewardOptions): Promise<Omit<RewardResult, 'model'>> {
  const perStep = options.perDeviceTrainBatchSize * options.gradientAccumulationSteps
  const total = totalSteps(pairs.length, perStep, options)
  const trainer = new Trainer(decoder, options, total)
  try {
    const evaluate = async (step: number): Promise<RewardEvaluation | null> => {
      const result = await evaluatePairs(decoder, evalPairs, options.perDeviceEvalBatchSize)
      if (result)
        run.log(step, {
          'eval/loss': result.loss,
          'eval/accuracy': result.accuracy,
          'eval/accuracy_low': result.interval[0],
          'eval/accuracy_high': result.interval[1],
          'eval/rewards/chosen': result.chosen,
          'eval/rewards/rejected': result.rejected,
        })
      return result
    }
    const before = await evaluate(0)
    const throughput = new Throughput()
    run.progress.start()
    let step = 0
    for (const chosen of stepsOf(pairs.length, perStep, options)) {
      if (run.stopped) break
      step++
      const rows = Array.from(chosen, (i) => pairs[i]!)
      let correct = 0
      let tokens = 0
      const scores = { chosen: new RunningSums(), rejected: new RunningSums() }
      const report = await trainer.step(async () => {
        let loss = 0
        for (const part of pieces(rows, options.perDeviceTrainBatchSize)) {
          const batch = packPairs(part)
          tokens += batch.ids.length
          await trainValues(decoder, batch, lastTokens(batch), (values) => {
            const [c, r] = [values.subarray(0, part.length), values.subarray(part.length)]
            const result = pairwiseLoss({ chosen: c, rejected: r, count: rows.length, center: options.centerRewardsCoefficient })
            loss += result.loss
            correct += result.correct
            c.forEach((x) => scores.chosen.add(x))
            r.forEach((x) => scores.rejected.add(x))
            return { loss: result.loss, grad: Float64Array.from([...result.gradChosen, ...result.gradRejected]) }
          })
        }
        return { loss }
      })
      const { seconds, tokensPerSecond } = throughput.tick(tokens)
      run.log(step, {
        loss: report.loss,
        'rewards/accuracies': correct / rows.length,
        'rewards/chosen': scores.chosen.mean,
        'rewards/rejected': scores.rejected.mean,
        'rewards/margins': scores.chosen.mean - scores.rejected.mean,
        grad_norm: report.gradNorm,
        learning_rate: report.learningRate,
        num_tokens: tokens,
        step_time: seconds,
        'perf/throughput': tokensPerSecond,
        skipped_steps: trainer.skipped,
      })
      run.progress.update('reward', step, total, [`loss ${short(report.loss)}`, `accuracy ${short(correct / rows.length)}`, `${Math.round(tokensPerSecond)} tokens/s`])
      if (options.evalInterval > 0 && step % options.evalInterval === 0 && step < total) await evaluate(step)
    }
    // stopped: the model is saved first, nobody waits for figures
    return { before, after: run.stopped ? null : await evaluate(step) }
  } finally {
    trainer.dispose()
  }
}

/** Accuracy and mean scores on held-out pairs; null without any. */
export async function evaluatePairs(decoder: Decoder, pairs: readonly PairRow[], batchSize: number): Promise<RewardEvaluation | null> {
  if (pairs.length === 0) return null
  let loss = 0
  let correct = 0
  const scores = { chosen: new RunningSums(), rejected: new RunningSums() }
  for (const part of pieces(pairs, batchSize)) {
    const batch = packPairs(part)
    const values = await scoreValues(decoder, batch, lastTokens(batch))
    const [c, r] = [values.subarray(0, part.length), values.subarray(part.length)]
    const result = pairwiseLoss({ chosen: c, rejected: r, count: pairs.length })
    loss += result.loss
    correct += result.correct
    c.forEach((x) => scores.chosen.add(x))
    r.forEach((x) => scores.rejected.add(x))
  }
  return { loss, accuracy: correct / pairs.length, interval: wilsonInterval(correct, pairs.length), chosen: scores.chosen.mean, rejected: scores.rejected.mean, pairs: pairs.length }
}
