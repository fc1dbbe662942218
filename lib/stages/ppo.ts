// Step 3, PPO: the actor starts from SFT, the reference is that model frozen, the critic starts from the reward model.
//
//   prompts -> rollouts (recorded log-probs) -> experience (reference, score, values, advantages)
//           -> for each PPO epoch and mini-batch: actor step, critic step
import { fail } from '../base/errors.js'
import type { Given, Resolved } from '../base/options.js'
import { resolveOptions } from '../base/options.js'
import { short } from '../base/progress.js'
import type { Run, RunHooks } from '../base/run.js'
import { RunningSums } from '../base/statistics.js'
import { epochOrder } from '../data/epochs.js'
import type { PromptRow } from '../data/records.js'
import { stageData } from '../data/stageData.js'
import { promptRows } from '../data/tokenize.js'
import { logprobGap, makeRollouts, packRollouts, scoreRollouts, whitened } from '../engine/experience.js'
import type { Experience, Rollout } from '../engine/experience.js'
import { scoreLogprobs } from '../engine/logprobs.js'
import { actorStep, criticStep } from '../engine/ppoUpdate.js'
import { Trainer } from '../engine/trainer.js'
import { explainedVariance } from '../rlhf/explainedVariance.js'
import { rowSeed } from '../rollout/generate.js'
import type { GenerateOptions } from '../rollout/generate.js'
import { StopTexts } from '../rollout/stopText.js'
import { ppoOptions } from './options.js'
import { PpoModels } from './ppoModels.js'
import { describeReport, openDevice, pieces, saveModel, silent, stepsOf, totalSteps, withRun } from './shared.js'

export type PpoOptions = Resolved<typeof ppoOptions>

export interface HeldOut {
  /** Mean reward-model score, its standard error, mean KL from the reference per answer. */
  score: number
  standardError: number
  kl: number
}

export interface PpoResult {
  actor: string | null
  critic: string | null
  /** Held-out prompts before and after; null without held-out rows. */
  before: HeldOut | null
  after: HeldOut | null
}

/** Trains an actor against a reward model with a KL penalty (InstructGPT; Ouyang et al. 2022, Schulman et al. 2017). */
export async function ppo(given: Given<typeof ppoOptions>, hooks: RunHooks = silent): Promise<PpoResult> {
  const options = resolveOptions('ppo', ppoOptions, given)
  refuseCuts(options)
  return withRun('ppo', options, hooks, async (run) => {
    const data = await stageData(options, 3)
    using device = openDevice(options)
    using models = await PpoModels.load(device, options)
    const { tokenizer, decoder } = models.actor
    const tokenize = { tokenizer, vocabSize: decoder.spec.vocab, maxPromptLen: options.maxPromptSeqLen }
    const train = await promptRows(data.train, tokenize)
    const held = await promptRows(data.eval, tokenize)
    run.progress.note(describeReport('ppo', train.report))

    const loop = new PpoLoop(run, models, options)
    const before = await loop.evaluate(held.rows, 0)
    await loop.train(train.rows)
    const after = await loop.evaluate(held.rows, loop.step)
    const actor = await saveModel(models.actor, options.outputDir, 'actor')
    const critic = await saveModel(models.critic, options.outputDir, 'critic')
    run.throwIfStopped(actor)
    return { actor, critic, before, after }
  })
}

function refuseCuts({ topK, topP, allowCutSampling }: PpoOptions): void {
  if ((topK > 0 || topP < 1) && !allowCutSampling)
    fail('ppo', 'rollouts from the whole distribution (--top-k 0, --top-p 1)', `--top-k ${topK}, --top-p ${topP}`, '--allow-cut-sampling if you accept that recorded log-probs are before the cut')
}

class PpoLoop {
  /** Optimizer steps so far. */
  step = 0
  #rollouts = 0
  #warned = false

  constructor(
    private readonly run: Run,
    private readonly models: PpoModels,
    private readonly options: PpoOptions,
  ) {}

  async train(prompts: readonly PromptRow[]): Promise<void> {
    const { options: o, models, run } = this
    const perExperience = o.perDeviceGenerationBatchSize * o.generationBatches
    const perStep = o.perDeviceTrainingBatchSize * o.gradientAccumulationSteps
    const loop = { ...o, maxSteps: 0 }
    const stepsEach = Math.ceil(perExperience / perStep) * o.ppoEpochs
    const all = totalSteps(prompts.length, perExperience, loop) * stepsEach
    const total = o.maxSteps > 0 ? Math.min(o.maxSteps, all) : all
    const actorTrainer = new Trainer(models.actor.decoder, { ...o, learningRate: o.actorLearningRate, weightDecay: o.actorWeightDecay }, total)
    const criticTrainer = new Trainer(models.critic.decoder, { ...o, learningRate: o.criticLearningRate, weightDecay: o.criticWeightDecay }, total)
    run.progress.start()
    try {
      for (const chosen of stepsOf(prompts.length, perExperience, loop)) {
        if (run.stopped || this.step >= total) break
        const started = performance.now()
        const rollouts = await this.#roll(Array.from(chosen, (i) => prompts[i]!))
        const rolled = performance.now()
        let gap = o.checkLogprobs ? await this.#fullGap(rollouts) : 0
        const experience = await this.#score(rollouts)
        const scored = performance.now()
        const about = { ...describeExperience(experience, o), 'timing_s/gen': (rolled - started) / 1000, 'timing_s/experience': (scored - rolled) / 1000 }
        this.#warnOfClipping(about['objective/score_clipfrac'])
        this.#samples(experience)
        let first = true
        for (let epoch = 0; epoch < o.ppoEpochs; epoch++) {
          const order = epochOrder(experience.length, o.seed, this.step + 1)
          for (const batch of pieces(Array.from(order, (i) => experience[i]!), perStep)) {
            if (this.step >= total) break
            this.step++
            const begin = performance.now()
            const micro = pieces(batch, o.perDeviceTrainingBatchSize)
            const critic = await criticStep(models.critic.decoder, criticTrainer, micro, o)
            const actor = this.step > o.criticWarmupSteps ? await actorStep(models.actor.decoder, actorTrainer, micro, o) : null
            if (first && actor) gap = Math.max(gap, actor.gap)
            first = false
            run.log(this.step, {
              loss: actor?.loss ?? null,
              'loss/policy_avg': actor?.loss ?? null,
              'loss/value_avg': critic.loss,
              'rollout/logprob_gap_max': gap,
              ...about,
              'policy/approxkl_avg': actor?.approxKl ?? null,
              'policy/clipfrac_avg': actor?.clipFraction ?? null,
              'policy/entropy_avg': actor?.entropy ?? null,
              'val/ratio': actor?.ratioMean ?? null,
              'val/ratio_max': actor?.ratioMax ?? null,
              'val/clipfrac_avg': critic.clipFraction,
              'actor/grad_norm': actor?.gradNorm ?? null,
              'critic/grad_norm': critic.gradNorm,
              'actor/lr': actor?.learningRate ?? null,
              'critic/lr': critic.learningRate,
              'timing_s/update': (performance.now() - begin) / 1000,
              skipped_steps: actorTrainer.skipped + criticTrainer.skipped,
            })
          }
        }
        const tokens = experience.reduce((n, e) => n + e.prompt.length + e.answer.length, 0)
        run.progress.update('ppo', this.step, total, [
          `reward ${short(about['objective/scores'])}`,
          `kl ${short(about['objective/kl'])}`,
          `${Math.round((tokens / (performance.now() - started)) * 1000)} tokens/s`,
        ])
      }
    } finally {
      actorTrainer.dispose()
      criticTrainer.dispose()
    }
  }

  #generation(stop: boolean): GenerateOptions {
    const { options: o, models } = this
    const { tokenizer } = models.actor
    const watch = stop && o.stop.length > 0 && tokenizer ? new StopTexts(tokenizer, o.stop) : null
    return {
      temperature: o.temperature,
      topK: o.topK,
      topP: o.topP,
      maxNewTokens: o.maxAnswerSeqLen,
      eosIds: models.actor.eosIds,
      maxBatch: o.perDeviceGenerationBatchSize,
      pageSize: o.kvPageSize,
      ...(watch && { stop: (index: number, token: number) => watch.push(index, token) }),
    }
  }

  async #roll(prompts: readonly PromptRow[]): Promise<Rollout[]> {
    const seeded = prompts.map((p) => ({ ids: p.ids, seed: rowSeed(this.options.seed, this.#rollouts++) }))
    return makeRollouts(this.models.actor.decoder, seeded, this.#generation(true))
  }

  async #score(rollouts: readonly Rollout[]): Promise<Experience[]> {
    const { options: o, models } = this
    const experience: Experience[] = []
    for (const part of pieces(rollouts, o.perDeviceTrainingBatchSize)) experience.push(...(await scoreRollouts(models.scoring, part, o.temperature, o)))
    return o.whitenAdvantages ? whitened(experience) : experience
  }

  /** Contract 1 for every row: the trainer's forward against what the sampler recorded. */
  async #fullGap(rollouts: readonly Rollout[]): Promise<number> {
    let gap = 0
    for (const part of pieces(rollouts, this.options.perDeviceTrainingBatchSize))
      gap = Math.max(gap, logprobGap(part, await scoreLogprobs(this.models.actor.decoder, packRollouts(part), this.options.temperature)))
    return gap
  }

  /** Mean score and KL on held-out prompts, each sampled once with a seed of its own. */
  async evaluate(rows: readonly PromptRow[], step: number): Promise<HeldOut | null> {
    const { options: o, models, run } = this
    const prompts = rows.slice(0, o.evalPrompts).map((p, i) => ({ ids: p.ids, seed: rowSeed(o.seed + 1, i) }))
    if (prompts.length === 0) return null
    const scores = new RunningSums()
    const kls = new RunningSums()
    for (const e of await this.#score(await makeRollouts(models.actor.decoder, prompts, this.#generation(true)))) {
      scores.add(e.score)
      kls.add(e.kl)
    }
    const result = { score: scores.mean, standardError: scores.standardError, kl: kls.mean }
    run.log(step, { 'eval/scores': result.score, 'eval/scores_se': result.standardError, 'eval/kl': result.kl })
    return result
  }

  /** Once: a clip that most scores hit leaves the actor nothing to learn from. */
  #warnOfClipping(share: number): void {
    if (share < 0.5 || this.#warned) return
    this.#warned = true
    this.run.progress.note(
      `ppo: ${Math.round(share * 100)} % of the scores are beyond --reward-clip ${this.options.rewardClip} and look alike to the actor. Try --reward-clip 0, or a reward model trained with --center-rewards-coefficient 0.01.`,
    )
  }

  #samples(experience: readonly Experience[]): void {
    const { tokenizer } = this.models.actor
    const text = (ids: Int32Array): string | null => tokenizer?.decode(ids, { skipSpecial: true }) ?? null
    for (const e of experience.slice(0, 2))
      this.run.sample(this.step, { prompt: text(e.prompt), answer: text(e.answer), reward: e.score, kl: e.kl, finish: e.finish, output_ids: Array.from(e.answer) })
  }
}

function describeExperience(experience: readonly Experience[], { klCoef, rewardClip }: PpoOptions) {
  const mean = (of: (e: Experience) => number): number => experience.reduce((s, e) => s + of(e), 0) / experience.length
  const scores = mean((e) => e.score)
  const kl = mean((e) => e.kl)
  return {
    'objective/scores': scores,
    'objective/score_clipfrac': mean((e) => (rewardClip > 0 && Math.abs(e.score) > rewardClip ? 1 : 0)),
    'objective/kl': kl,
    'objective/non_score_reward': -klCoef * kl,
    'objective/rlhf_reward': scores - klCoef * kl,
    'completions/mean_length': mean((e) => e.answer.length),
    'completions/clipped_ratio': mean((e) => (e.finish === 'length' ? 1 : 0)),
    'critic/vf_explained_var': explainedVariance(
      experience.flatMap((e) => Array.from(e.values)),
      experience.flatMap((e) => Array.from(e.returns)),
    ),
  }
}
