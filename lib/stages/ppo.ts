// Step 3, PPO: the actor starts from SFT, the reference is that model frozen, the critic starts from the reward model. GRPO and
// RLOO are the same loop without a critic.
import { UsageError, fail } from '../base/errors.js'
import type { Given, Resolved } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { openStageData } from '../data/stageData.js'
import { promptKind } from '../data/tokenize.js'
import { Scope } from '../tensor/scope.js'
import { resolveStage } from './deepspeedConfig.js'
import { ppoOptions } from './options.js'
import { PpoLoop } from './ppoLoop.js'
import { PpoModels, wantedModels } from './ppoModels.js'
import { PretrainingMix } from './pretrainingMix.js'
import { RewardFunction } from './rewardFunction.js'
import { readRows } from './rows.js'
import { hubHooks, openDevice, saveFactors, saveModel, silent, withRun } from './shared.js'

export type PpoOptions = Resolved<typeof ppoOptions>

export interface HeldOut {
  /** Mean score, its standard error, mean KL from the reference per answer. */
  score: number
  standardError: number
  kl: number
}

export interface PpoResult {
  actor: string | null
  /** Null for grpo and rloo, which have none. */
  critic: string | null
  /** The actor's moving average; null without --enable-ema. */
  actorEma: string | null
  /** Held-out prompts before and after; null without held-out rows. */
  before: HeldOut | null
  after: HeldOut | null
}

/**
 * Trains an actor against a reward model or a function, with a KL penalty: PPO (InstructGPT; Ouyang et al. 2022, Schulman et al.
 * 2017), GRPO (Shao et al. 2024) or RLOO (Ahmadian et al. 2024).
 */
export async function ppo(given: Given<typeof ppoOptions>, hooks: RunHooks = silent): Promise<PpoResult> {
  const options = await resolveStage('ppo', ppoOptions, given, hooks)
  const rewardFunction = await checkPpo(options)
  return withRun('ppo', options, hooks, async (run, saves) => {
    const data = await openStageData(options, 3, hubHooks(run.hooks))
    using scope = new Scope()
    using device = openDevice(options)
    using models = await PpoModels.load(device, options, run.hooks)
    const { tokenizer, decoder } = models.actor
    const { train, held } = await readRows(run, data, promptKind, { tokenizer, vocabSize: decoder.spec.vocab, maxPromptLen: options.maxPromptSeqLen }, options)
    scope.own(train)
    scope.own(held)

    using mix = await PretrainingMix.open(run, models.actor, options)

    using loop = new PpoLoop({ run, saves }, models, rewardFunction, mix, options)
    const { before, after } = await loop.train(train, held)
    const actor = await saveModel(models.actor, options.outputDir, 'actor')
    const critic = models.critic && (await saveModel(models.critic, options.outputDir, 'critic'))
    await saveFactors(run, models.actor, options.actorModelNameOrPath, options.outputDir, 'actor-adapter')
    if (models.critic) await saveFactors(run, models.critic, options.criticModelNameOrPath!, options.outputDir, 'critic-adapter')
    loop.average?.apply(models.actor.decoder)
    const actorEma = loop.average ? await saveModel(models.actor, options.outputDir, 'actor-ema') : null
    run.throwIfStopped(actor)
    return { actor, critic, actorEma, before, after }
  })
}

/** What can be refused before anything is read: options that exclude each other, a function that is none. Gives that function. */
export async function checkPpo(options: PpoOptions): Promise<RewardFunction | null> {
  refuseCuts(options)
  refuseContradictions(options)
  return options.rewardFunction === null ? null : RewardFunction.load(options.rewardFunction, options.rewardFunctionSeconds)
}

function refuseContradictions(o: PpoOptions): void {
  const { algorithm, rewardFrom, klIn } = o
  const refuse = (flag: string, expected: string, received: string, cure: string): never => {
    throw new UsageError(flag, expected, received, cure)
  }
  const wants = wantedModels(o)
  if (o.criticModelNameOrPath === null && (wants.critic || wants.reward))
    refuse('ppo', `--critic-model-name-or-path (${wants.reward ? 'the reward model' : 'where the critic starts, any model folder'})`, 'none', 'threefold ppo --help')
  if (rewardFrom !== 'model' && o.rewardFunction === null) refuse('--reward-from', 'model without --reward-function', rewardFrom, '--reward-function')
  if (rewardFrom === 'model' && o.rewardFunction !== null) refuse('--reward-from', 'function or both with --reward-function', rewardFrom, '--reward-from both')
  if (algorithm !== 'ppo' && o.groupSize < 2) refuse('--group-size', `at least 2 answers to each prompt with --algorithm ${algorithm}, which compares them`, String(o.groupSize), '--group-size 8')
  if (algorithm !== 'ppo' && o.criticWarmupSteps > 0) refuse('--critic-warmup-steps', `0 with --algorithm ${algorithm}, which has no critic`, String(o.criticWarmupSteps), '--critic-warmup-steps 0')
  if (o.compat !== 'none' && (algorithm !== 'ppo' || rewardFrom !== 'model' || klIn !== 'reward')) refuse('--compat', '--algorithm ppo with rewards from a model and the KL penalty in them, as DeepSpeed-Chat has', `--algorithm ${algorithm}, --reward-from ${rewardFrom}, --kl-in ${klIn}`, '--compat none')
  if (o.compat !== 'none' && o.normalizeRewards) refuse('--normalize-rewards', 'off with --compat, which pays scores as they are', 'on', '--compat none')
  if (rewardFrom === 'function' && o.rewardEnsemble.length > 0) refuse('--reward-ensemble', 'rewards from a model', '--reward-from function', '--reward-from both')
  if (klIn === 'loss' && o.klEstimator === 'k1') refuse('--kl-estimator', 'k2 or k3 with --kl-in loss: the gradient of k1 does not depend on the reference', 'k1', '--kl-estimator k3')
}

function refuseCuts({ topK, topP, allowCutSampling }: PpoOptions): void {
  if ((topK > 0 || topP < 1) && !allowCutSampling)
    fail('ppo', 'rollouts from the whole distribution (--top-k 0, --top-p 1)', `--top-k ${topK}, --top-p ${topP}`, '--allow-cut-sampling if you accept that recorded log-probs are before the cut')
}
