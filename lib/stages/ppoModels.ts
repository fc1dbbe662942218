// The models of PPO, from two folders: the actor and its frozen copy, the critic and the frozen reward model. GRPO and RLOO
// have no critic; where a function gives the rewards there is no reward model.
import { fail } from '../base/errors.js'
import type { RunHooks } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { ScoringModels } from '../engine/experience.js'
import type { HeadKind } from '../model/spec.js'
import type { NativeDevice } from '../tensor/device.js'
import type { LoraSettings } from './openModel.js'
import type { MachineOptions } from './shared.js'
import { loadModel } from './shared.js'

export interface PpoModelOptions extends MachineOptions {
  actorModelNameOrPath: string
  /** Null where neither critic nor reward model is wanted. */
  criticModelNameOrPath: string | null
  algorithm: string
  rewardFrom: string
  maxPromptSeqLen: number
  maxAnswerSeqLen: number
  rewardEnsemble: readonly string[]
  actorGradientCheckpointing: boolean
  criticGradientCheckpointing: boolean
  actorLoraDim: number
  criticLoraDim: number
  actorLoraModuleName: readonly string[]
  criticLoraModuleName: readonly string[]
  loraAlpha: number
  loraDropout: number
  onlyOptimizeLora: boolean
}

type LoraFlags = Pick<PpoModelOptions, 'actorLoraDim' | 'criticLoraDim' | 'actorLoraModuleName' | 'criticLoraModuleName' | 'loraAlpha' | 'loraDropout' | 'onlyOptimizeLora'>
const loraShared = (o: LoraFlags) => ({ alpha: o.loraAlpha, dropout: o.loraDropout, only: o.onlyOptimizeLora })
export const actorLora = (o: LoraFlags): LoraSettings => ({ who: 'actor', dim: o.actorLoraDim, modules: o.actorLoraModuleName, ...loraShared(o) })
export const criticLora = (o: LoraFlags): LoraSettings => ({ who: 'critic', dim: o.criticLoraDim, modules: o.criticLoraModuleName, ...loraShared(o) })

/** Which models come from the critic's folder. */
export function wantedModels({ algorithm, rewardFrom }: Pick<PpoModelOptions, 'algorithm' | 'rewardFrom'>): { critic: boolean; reward: boolean } {
  return { critic: algorithm === 'ppo', reward: rewardFrom !== 'function' }
}

export class PpoModels implements Disposable {
  private constructor(
    readonly actor: LoadedModel,
    readonly reference: LoadedModel,
    readonly critic: LoadedModel | null,
    readonly reward: LoadedModel | null,
    /** Of --reward-ensemble. */
    readonly ensemble: readonly LoadedModel[],
  ) {}

  /** Errors: a reward model that is none, vocabularies that differ, sequences longer than a model's positions. */
  static async load(device: NativeDevice, o: PpoModelOptions, hooks: RunHooks): Promise<PpoModels> {
    const { actorModelNameOrPath: sft, criticModelNameOrPath: rm } = o
    const wants = wantedModels(o)
    const loaded: LoadedModel[] = []
    try {
      const load = async (folder: string, head: HeadKind, lora?: LoraSettings): Promise<LoadedModel> => {
        const model = await loadModel(device, folder, o, hooks, { head, ...(lora && { lora }) })
        loaded.push(model)
        return model
      }
      const [actor, reference] = [await load(sft, 'logprob', actorLora(o)), await load(sft, 'logprob')]
      const critic = wants.critic ? await load(rm!, 'scalar', criticLora(o)) : null
      const reward = wants.reward ? await load(rm!, 'scalar') : null
      const ensemble: LoadedModel[] = []
      for (const folder of o.rewardEnsemble) ensemble.push(await load(folder, 'scalar'))
      const a = actor.decoder
      const first = reward ?? critic
      const judges = [...(first ? [{ model: first, folder: rm! }] : []), ...ensemble.map((model, i) => ({ model, folder: o.rewardEnsemble[i]! }))]
      for (const { model, folder } of judges)
        if (a.spec.vocab !== model.decoder.spec.vocab)
          fail('ppo', `a ${reward ? 'reward model' : 'critic'} with the actor's vocabulary (${a.spec.vocab})`, `${model.decoder.spec.vocab} in ${folder}`, 'a model with the same tokenizer')
      const need = o.maxPromptSeqLen + o.maxAnswerSeqLen
      const room = Math.min(a.maxPositions, ...judges.map(({ model }) => model.decoder.maxPositions))
      if (need > room)
        fail('ppo', `prompts and answers of at most ${room} tokens together, as the models' positions allow`, `${o.maxPromptSeqLen} + ${o.maxAnswerSeqLen}`, 'a smaller --max-prompt-seq-len or --max-answer-seq-len')
      for (const { folder } of reward ? judges.filter(({ model }) => model.valueHeadIsFresh) : [])
        fail('ppo', `a reward model in ${folder}`, 'a language model without a value head', '`threefold reward` to train one; --actor-model-name-or-path and --critic-model-name-or-path may be swapped')
      if (rm !== null && !critic && !reward) hooks.progress.note(`ppo: ${rm} is not read: ${o.algorithm} has no critic, and rewards come from --reward-function alone`)
      if (critic?.valueHeadIsFresh) hooks.progress.note(`ppo: the critic starts from ${rm} with a fresh value head; --critic-warmup-steps lets it learn before the actor does`)
      a.gradientCheckpointing = o.actorGradientCheckpointing
      if (critic) critic.decoder.gradientCheckpointing = o.criticGradientCheckpointing
      return new PpoModels(actor, reference, critic, reward, ensemble)
    } catch (error) {
      for (const m of loaded) m.dispose()
      throw error
    }
  }

  get scoring(): ScoringModels {
    return { reference: this.reference.decoder, critic: this.critic?.decoder ?? null, reward: this.reward?.decoder ?? null, ensemble: this.ensemble.map((m) => m.decoder) }
  }

  dispose(): void {
    for (const m of [this.actor, this.reference, this.critic, this.reward, ...this.ensemble]) m?.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
