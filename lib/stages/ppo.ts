// Step 3, PPO: the actor starts from SFT, the reference is that model frozen, the critic starts from the reward model.
import { fail } from '../base/errors.js'
import type { Given, Resolved } from '../base/options.js'
import type { RunHooks } from '../base/run.js'
import { openStageData } from '../data/stageData.js'
import { promptKind } from '../data/tokenize.js'
import { Scope } from '../tensor/scope.js'
import { resolveStage } from './deepspeedConfig.js'
import { ppoOptions } from './options.js'
import { PpoLoop } from './ppoLoop.js'
import { PpoModels } from './ppoModels.js'
import { readRows } from './rows.js'
import { hubHooks, openDevice, saveFactors, saveModel, silent, withRun } from './shared.js'

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
  /** The actor's moving average; null without --enable-ema. */
  actorEma: string | null
  /** Held-out prompts before and after; null without held-out rows. */
  before: HeldOut | null
  after: HeldOut | null
}

/** Trains an actor against a reward model with a KL penalty (InstructGPT; Ouyang et al. 2022, Schulman et al. 2017). */
export async function ppo(given: Given<typeof ppoOptions>, hooks: RunHooks = silent): Promise<PpoResult> {
  const options = await resolveStage('ppo', ppoOptions, given, hooks)
  refuseCuts(options)
  return withRun('ppo', options, hooks, async (run, saves) => {
    const data = await openStageData(options, 3, hubHooks(run.hooks))
    using scope = new Scope()
    using device = openDevice(options)
    using models = await PpoModels.load(device, options, run.hooks)
    const { tokenizer, decoder } = models.actor
    const { train, held } = await readRows(run, data, promptKind, { tokenizer, vocabSize: decoder.spec.vocab, maxPromptLen: options.maxPromptSeqLen }, options)
    scope.own(train)
    scope.own(held)

    using loop = new PpoLoop({ run, saves }, models, options)
    const { before, after } = await loop.train(train, held)
    const actor = await saveModel(models.actor, options.outputDir, 'actor')
    const critic = await saveModel(models.critic, options.outputDir, 'critic')
    await saveFactors(models.actor, options.actorModelNameOrPath, options.outputDir, 'actor-adapter')
    await saveFactors(models.critic, options.criticModelNameOrPath, options.outputDir, 'critic-adapter')
    loop.average?.apply(models.actor.decoder)
    const actorEma = loop.average ? await saveModel(models.actor, options.outputDir, 'actor-ema') : null
    run.throwIfStopped(actor)
    return { actor, critic, actorEma, before, after }
  })
}

function refuseCuts({ topK, topP, allowCutSampling }: PpoOptions): void {
  if ((topK > 0 || topP < 1) && !allowCutSampling)
    fail('ppo', 'rollouts from the whole distribution (--top-k 0, --top-p 1)', `--top-k ${topK}, --top-p ${topP}`, '--allow-cut-sampling if you accept that recorded log-probs are before the cut')
}
