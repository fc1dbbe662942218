// The loop of PPO.
//
//   prompts -> rollouts (recorded log-probs) -> experience (reference, score, values, advantages)
//           -> for each PPO epoch and mini-batch: critic step (where there is one), actor step
import { short } from '../base/progress.js'
import type { Run } from '../base/run.js'
import { RunningSums } from '../base/statistics.js'
import type { RunningState } from '../base/statistics.js'
import type { RunCheckpoint } from '../checkpoint/runCheckpoint.js'
import { putBack, taken } from '../checkpoint/snapshot.js'
import type { Snapshot } from '../checkpoint/snapshot.js'
import { epochOrder } from '../data/epochs.js'
import type { PromptRow } from '../data/records.js'
import { rowsFrom } from '../data/rowList.js'
import type { RowList } from '../data/rowList.js'
import { groupBaselined, logprobGap, makeRollouts, packRollouts, repaid, scoreRollouts, whitened } from '../engine/experience.js'
import type { Experience, Rollout, ShapingOptions } from '../engine/experience.js'
import { experienceTensors, storedExperience } from '../engine/experienceSnapshot.js'
import { scoreLogprobs } from '../engine/logprobs.js'
import { scorePadded, withWidths } from '../engine/paddedExperience.js'
import type { PaddedModels } from '../engine/paddedExperience.js'
import { actorStep, alignedSteps, criticStep } from '../engine/ppoUpdate.js'
import type { ActorStep, CriticStep } from '../engine/ppoUpdate.js'
import { Trainer } from '../engine/trainer.js'
import { WeightAverage } from '../optim/weightAverage.js'
import { nextKlCoef } from '../rlhf/klController.js'
import { rowSeed } from '../rollout/generate.js'
import type { GenerateOptions } from '../rollout/generate.js'
import { StopTexts } from '../rollout/stopText.js'
import { Alarms } from './alarms.js'
import type { AlarmState } from './alarms.js'
import { paddingToken } from './compat.js'
import { expectSameRows } from './loop.js'
import type { Training } from './loop.js'
import type { HeldOut, PpoOptions } from './ppo.js'
import { describeExperience, describeUpdate, readingOf } from './ppoMetrics.js'
import type { ExperienceMetrics } from './ppoMetrics.js'
import type { PpoModels } from './ppoModels.js'
import { showSamples } from './ppoSamples.js'
import type { PretrainingMix } from './pretrainingMix.js'
import type { RewardFunction } from './rewardFunction.js'
import type { Saves } from './saves.js'
import { pieces, stepsOf, totalSteps } from './shared.js'

interface Gathered {
  experience: Experience[]
  /** Largest gap between recorded and recomputed log-probs so far; null while none was recomputed. */
  gap: number | null
  metrics: ExperienceMetrics & { 'completions/dropped': number; 'timing_s/gen': number; 'timing_s/experience': number }
  /** Where the updates stand: the PPO epoch, the optimizer steps before it, the mini-batches of it that are done. */
  epoch: number
  stepsBefore: number
  done: number
}

interface Trainers {
  actor: Trainer
  /** Null for grpo and rloo. */
  critic: Trainer | null
}

/** Of a checkpoint, besides the models and the experience at hand. */
interface LoopState {
  rows: number
  /** Mixed in; null without any. */
  texts: number | null
  before: HeldOut | null
  rollouts: number
  /** Experiences that are learnt from and gone. */
  finished: number
  alarms: AlarmState
  klCoef: number
  scores: RunningState
  current: Omit<Gathered, 'experience'> | null
}

export class PpoLoop implements Disposable {
  /** Optimizer steps so far. */
  step = 0
  #rollouts = 0
  #finished = 0
  #alarms = new Alarms()
  /** Of the penalty; --kl-target moves it. */
  #klCoef: number
  /** Of every answer so far, for --normalize-rewards. */
  #scores = new RunningSums()
  /** Of the actor's weights; null without --enable-ema. */
  average: WeightAverage | null = null
  #current: Gathered | null = null
  /** Of --compat deepspeed-chat; null without. */
  readonly #padId: number | null
  private readonly run: Run
  private readonly saves: Saves

  constructor(
    { run, saves }: Training,
    private readonly models: PpoModels,
    private readonly rewardFunction: RewardFunction | null,
    private readonly mix: PretrainingMix | null,
    private readonly options: PpoOptions,
  ) {
    this.run = run
    this.saves = saves
    this.#klCoef = options.klCoef
    this.#padId = options.compat === 'none' ? null : paddingToken(options, models.actor)
  }

  /** Evaluates, trains all steps, evaluates again; goes on where a checkpoint was taken. Ctrl-C ends it after the step it is in. */
  async train(prompts: RowList<PromptRow>, held: RowList<PromptRow>): Promise<{ before: HeldOut | null; after: HeldOut | null }> {
    const { options: o, models, run, saves } = this
    const perExperience = o.perDeviceGenerationBatchSize * o.generationBatches
    const perStep = o.perDeviceTrainingBatchSize * o.gradientAccumulationSteps
    const loop = { ...o, maxSteps: 0 }
    const stepsEach = Math.ceil((perExperience * o.groupSize) / perStep) * o.ppoEpochs
    const all = totalSteps(prompts.length, perExperience, loop) * stepsEach
    const total = o.maxSteps > 0 ? Math.min(o.maxSteps, all) : all
    const actor = new Trainer(models.actor.decoder, { ...o, learningRate: o.actorLearningRate, loraLearningRate: o.actorLoraLearningRate, weightDecay: o.actorWeightDecay }, total, { p: o.actorDropout, seed: o.seed })
    const critic = models.critic && new Trainer(models.critic.decoder, { ...o, learningRate: o.criticLearningRate, loraLearningRate: o.criticLoraLearningRate, weightDecay: o.criticWeightDecay }, total, { p: o.criticDropout, seed: o.seed })
    const trainers = { actor, critic }
    if (o.enableEma) this.average = new WeightAverage(models.actor.decoder.device, actor.optimizer, o.emaDecay)
    try {
      const resumed = saves.begin(models.actor.decoder.device)
      const before = resumed ? await this.#restore(resumed, trainers, prompts.length) : await this.evaluate(held, 0)
      const snapshot = (): Record<string, Snapshot> => this.#snapshot(trainers, { rows: prompts.length, before })
      run.progress.start(this.step)
      for (const chosen of stepsOf(prompts.length, perExperience, loop, this.#finished)) {
        if (run.stopped || this.#ended(trainers, total)) break
        const started = performance.now()
        const gathered = (this.#current ??= await this.#gather(Array.from(chosen, (i) => prompts.at(i))))
        await this.#update(gathered, { trainers, held, total }, snapshot)
        if (run.stopped) break
        this.#current = null
        this.#finished++
        this.#moveKlCoef(gathered)
        const tokens = gathered.experience.reduce((n, e) => n + e.prompt.length + e.answer.length, 0)
        run.progress.update('ppo', this.step, total, [
          `reward ${short(gathered.metrics['objective/scores'])}`,
          `kl ${short(gathered.metrics['objective/kl'])}`,
          `${Math.round((tokens / (performance.now() - started)) * 1000)} tokens/s`,
        ])
      }
      if (run.stopped) await saves.now(this.step, snapshot)
      return { before, after: run.stopped ? null : await this.evaluate(held, this.step) }
    } finally {
      actor.dispose()
      critic?.dispose()
    }
  }

  /** Rollouts of these prompts and the experience they give. */
  async #gather(prompts: readonly PromptRow[]): Promise<Gathered> {
    const started = performance.now()
    const rollouts = await this.#roll(prompts)
    const rolled = performance.now()
    const gap = this.options.checkLogprobs ? await this.#fullGap(rollouts) : null
    const scored = this.#withAdvantages(this.#normalized(await this.#score(rollouts)))
    // --compat: an answer in which nothing counts is left out, as DeepSpeed-Chat does
    const learnt = scored.filter((e) => (e.counted?.includes(1) ?? true) && !(this.options.maskTruncated && e.finish === 'length'))
    const experience = this.options.whitenAdvantages ? whitened(learnt) : learnt
    const seconds = { 'timing_s/gen': (rolled - started) / 1000, 'timing_s/experience': (performance.now() - rolled) / 1000 }
    const about = { ...this.options, scoreScale: this.#scoreScale, klCoef: this.#klCoef, klInReward: this.options.klIn === 'reward', rewardFunction: this.rewardFunction !== null }
    const metrics = { ...describeExperience(scored, experience, about), 'objective/score_deviation': this.#scoreScale?.deviation ?? null, 'completions/dropped': scored.length - experience.length, ...seconds }
    this.#say(this.#alarms.seeExperience(readingOf(metrics)))
    showSamples(this.run, experience, { step: this.step, number: this.#finished }, this.models.actor.tokenizer, this.#shaping)
    return { experience, gap, metrics, epoch: 0, stepsBefore: this.step, done: 0 }
  }

  /** Every PPO epoch over the experience, from where it stands; one optimizer step of critic and actor per mini-batch. */
  async #update(at: Gathered, { trainers, held, total }: { trainers: Trainers; held: RowList<PromptRow>; total: number }, snapshot: () => Record<string, Snapshot>): Promise<void> {
    const { options: o, run, saves } = this
    const { experience, metrics } = at
    for (; at.epoch < o.ppoEpochs; Object.assign(at, { epoch: at.epoch + 1, stepsBefore: this.step, done: 0 })) {
      const order = epochOrder(experience.length, o.seed, at.stepsBefore + 1)
      const batches = pieces(Array.from(order, (i) => experience[i]!), o.perDeviceTrainingBatchSize * o.gradientAccumulationSteps)
      for (const batch of batches.slice(at.done)) {
        if (run.stopped || this.#ended(trainers, total)) return
        this.step++
        const begin = performance.now()
        const micro = pieces(batch, o.perDeviceTrainingBatchSize)
        const { critic, actor } = await this.#steps(trainers, micro)
        if (actor?.applied) this.average?.update()
        // before the first update the actor still is what sampled: its forward pass proves contract 1 for free, unless it drops
        if (at.epoch === 0 && at.done === 0 && actor && !this.#drops) at.gap = Math.max(at.gap ?? 0, actor.gap)
        at.done++
        if (actor) this.#say(this.#alarms.seeUpdate({ ratio: actor.ratioMean, entropy: actor.entropy }))
        run.log(this.step, {
          'rollout/logprob_gap_max': at.gap,
          ...describeUpdate(actor, critic),
          ...metrics,
          'timing_s/update': (performance.now() - begin) / 1000,
          skipped_steps: trainers.actor.skipped + (trainers.critic?.skipped ?? 0),
          alarms: this.#alarms.active.join(' ') || null,
        })
        const far = o.stopKl > 0 && actor !== null && actor.approxKl > o.stopKl
        if (far) at.epoch = o.ppoEpochs
        if (o.evalInterval > 0 && this.step % o.evalInterval === 0 && !this.#ended(trainers, total)) await this.evaluate(held, this.step)
        await saves.after(this.step, snapshot)
        if (far) return
      }
    }
  }

  /** The actor does not train in the form that sampled. */
  get #drops(): boolean {
    const { actorDropout, actorLoraDim, loraDropout } = this.options
    return actorDropout > 0 || (actorLoraDim > 0 && loraDropout > 0)
  }

  /** All steps are done, or as many applied ones as --enable-test-mode asks for. */
  #ended({ actor, critic }: Trainers, total: number): boolean {
    const { enableTestMode, testStopStep } = this.options
    return this.step >= total || (enableTestMode && testStopStep > 0 && this.step - Math.max(actor.skipped, critic?.skipped ?? 0) >= testStopStep)
  }

  /** `actor` is null while only the critic warms up, `critic` where there is none. */
  async #steps({ actor, critic }: Trainers, micro: readonly Experience[][]): Promise<{ critic: CriticStep | null; actor: ActorStep | null }> {
    const { klIn, unsupCoef: coef } = this.options
    const ptx = this.mix && { batches: this.mix.batches(this.step), coef }
    const o = { ...this.options, klLossCoef: klIn === 'loss' ? this.#klCoef : 0, ...(ptx && { ptx }) }
    const warmingUp = this.step <= o.criticWarmupSteps
    if (!critic) return { critic: null, actor: await actorStep(actor.decoder, actor, micro, o) }
    if (o.alignOverflow && !warmingUp) return alignedSteps(actor, critic, micro, o)
    const ofCritic = await criticStep(critic.decoder, critic, micro, o)
    return { critic: ofCritic, actor: warmingUp ? null : await actorStep(actor.decoder, actor, micro, o) }
  }

  #snapshot({ actor, critic }: Trainers, { rows, before }: Pick<LoopState, 'rows' | 'before'>): Record<string, Snapshot> {
    const { experience = [], ...current } = this.#current ?? {}
    const state = { rows, texts: this.mix?.size ?? null, before, rollouts: this.#rollouts, finished: this.#finished, alarms: this.#alarms.state, klCoef: this.#klCoef, scores: this.#scores.state, current: this.#current && current }
    return { actor: actor.snapshot(), ...(critic && { critic: critic.snapshot() }), ...(this.average && { ema: { numbers: {}, tensors: this.average.buffers.map(({ name, tensor }) => taken(name, tensor)) } }), loop: { numbers: state, tensors: experienceTensors(experience) } }
  }

  /** Gives the evaluation before the first step. */
  async #restore(checkpoint: RunCheckpoint, { actor, critic }: Trainers, rows: number): Promise<HeldOut | null> {
    await actor.restore(await checkpoint.part('actor'))
    await critic?.restore(await checkpoint.part('critic'))
    if (this.average) for (const { name, tensor } of this.average.buffers) await putBack(await checkpoint.part('ema'), name, tensor)
    const stored = await checkpoint.part('loop')
    const state = stored.numbers as unknown as LoopState
    expectSameRows(checkpoint, state.rows, rows)
    if (this.mix && state.texts !== null) expectSameRows(checkpoint, state.texts, this.mix.size, '--unsupervised-dataset-name')
    this.step = checkpoint.state.step
    this.#rollouts = state.rollouts
    this.#finished = state.finished
    this.#alarms = new Alarms(state.alarms)
    this.#klCoef = state.klCoef
    this.#scores = RunningSums.from(state.scores)
    this.#current = state.current && { ...state.current, experience: await storedExperience(stored) }
    return state.before
  }

  /** How rewards are made of scores and KL now. */
  get #shaping(): PpoOptions & ShapingOptions {
    return { ...this.options, klCoef: this.options.klIn === 'reward' ? this.#klCoef : 0, scoreScale: this.#scoreScale }
  }

  /** Of --normalize-rewards; undefined without it. */
  get #scoreScale(): { mean: number; deviation: number } | undefined {
    const { mean, standardDeviation } = this.#scores
    return this.options.normalizeRewards ? { mean, deviation: Math.max(standardDeviation, 1e-6) } : undefined
  }

  /** --normalize-rewards: scores are paid by mean and deviation of all so far, these ones included. */
  #normalized(experience: Experience[]): Experience[] {
    if (!this.options.normalizeRewards) return experience
    this.#scores.addAll(experience.map((e) => e.score))
    return experience.map((e) => repaid(e, this.#shaping))
  }

  #generation(): GenerateOptions {
    const { options: o, models } = this
    const { tokenizer } = models.actor
    const watch = o.stop.length > 0 && tokenizer ? new StopTexts(tokenizer, o.stop) : null
    return {
      temperature: o.temperature,
      topK: o.topK,
      topP: o.topP,
      maxNewTokens: o.maxAnswerSeqLen,
      eosIds: models.actor.eosIds,
      maxBatch: o.perDeviceGenerationBatchSize * o.groupSize,
      pageSize: o.kvPageSize,
      ...(watch && { stop: (index: number, token: number) => watch.push(index, token) }),
    }
  }

  async #roll(prompts: readonly PromptRow[]): Promise<Rollout[]> {
    const { seed, groupSize } = this.options
    const seeded = prompts.flatMap((p) => Array.from({ length: groupSize }, () => ({ ids: p.ids, seed: rowSeed(seed, this.#rollouts++) })))
    return makeRollouts(this.models.actor.decoder, seeded, this.#generation())
  }

  async #score(rollouts: readonly Rollout[]): Promise<Experience[]> {
    const { options: o, models } = this
    const judged = this.rewardFunction ? await this.rewardFunction.judge(rollouts, models.actor.tokenizer) : rollouts
    const experience: Experience[] = []
    const [padId, shaping] = [this.#padId, this.#shaping]
    if (padId === null) for (const part of pieces(judged, o.perDeviceTrainingBatchSize)) experience.push(...(await scoreRollouts(models.scoring, part, o.temperature, shaping)))
    else {
      const all = { ...models.scoring, actor: models.actor.decoder } as PaddedModels // checkPpo saw that there is a critic and a reward model
      for (const part of pieces(withWidths(judged, o.perDeviceGenerationBatchSize * o.groupSize), o.perDeviceTrainingBatchSize)) experience.push(...(await scorePadded(all, part, padId, o.temperature, shaping)))
    }
    return experience
  }

  /** What the actor learns from: against the critic (already there), or against the other answers to the prompt. */
  #withAdvantages(experience: Experience[]): Experience[] {
    const { algorithm, groupSize, grpoScaleRewards } = this.options
    const baseline = algorithm === 'rloo' ? 'leaveOneOut' : grpoScaleRewards === 'group' ? 'scaled' : 'unscaled'
    return algorithm === 'ppo' ? experience : groupBaselined(experience, groupSize, baseline)
  }

  /** Contract 1 for every row: the trainer's forward against what the sampler recorded. */
  async #fullGap(rollouts: readonly Rollout[]): Promise<number> {
    let gap = 0
    for (const part of pieces(rollouts, this.options.perDeviceTrainingBatchSize))
      gap = Math.max(gap, logprobGap(part, await scoreLogprobs(this.models.actor.decoder, packRollouts(part), this.options.temperature)))
    return gap
  }

  /** Mean score and KL on held-out prompts, each sampled once with a seed of its own. */
  async evaluate(rows: RowList<PromptRow>, step: number): Promise<HeldOut | null> {
    const { options: o, models, run } = this
    const prompts = rowsFrom(rows, 0, o.evalPrompts).map((p, i) => ({ ids: p.ids, seed: rowSeed(o.seed + 1, i) }))
    if (prompts.length === 0) return null
    const scores = new RunningSums()
    const kls = new RunningSums()
    for (const e of await this.#score(await makeRollouts(models.actor.decoder, prompts, this.#generation()))) {
      scores.add(e.score)
      kls.add(e.kl)
    }
    const result = { score: scores.mean, standardError: scores.standardError, kl: kls.mean }
    this.#say(this.#alarms.seeHeldOut(result))
    run.log(step, { 'eval/scores': result.score, 'eval/scores_se': result.standardError, 'eval/kl': result.kl })
    return result
  }

  #moveKlCoef({ experience, metrics }: Gathered): void {
    const { klTarget: target, klHorizon: horizon } = this.options
    if (target > 0 && experience.length > 0) this.#klCoef = nextKlCoef(this.#klCoef, { kl: metrics['objective/kl'], target, horizon, samples: experience.length })
  }

  /** Says what an alarm has to say. */
  #say(alarms: readonly string[]): void {
    for (const text of alarms) this.run.progress.note(`ppo: ${text}`)
  }

  [Symbol.dispose](): void {
    this.average?.dispose()
  }
}
