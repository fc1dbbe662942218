// The four models of PPO, from two folders: the actor and its frozen copy, the critic and the frozen reward model.
import { fail } from '../base/errors.js'
import type { RunHooks } from '../base/run.js'
import type { LoadedModel } from '../checkpoint/model.js'
import type { ScoringModels } from '../engine/experience.js'
import type { NativeDevice } from '../tensor/device.js'
import type { LoraSettings } from './openModel.js'
import type { MachineOptions } from './shared.js'
import { loadModel } from './shared.js'

export interface PpoModelOptions extends MachineOptions {
  actorModelNameOrPath: string
  criticModelNameOrPath: string
  maxPromptSeqLen: number
  maxAnswerSeqLen: number
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

export class PpoModels implements Disposable {
  private constructor(
    readonly actor: LoadedModel,
    readonly reference: LoadedModel,
    readonly critic: LoadedModel,
    readonly reward: LoadedModel,
  ) {}

  /** Errors: a reward model that is none, vocabularies that differ, sequences longer than a model's positions. */
  static async load(device: NativeDevice, o: PpoModelOptions, hooks: RunHooks): Promise<PpoModels> {
    const { actorModelNameOrPath: sft, criticModelNameOrPath: rm } = o
    const loaded: LoadedModel[] = []
    try {
      for (const [folder, rest] of [
        [sft, { head: 'logprob', lora: actorLora(o) }],
        [sft, { head: 'logprob' }],
        [rm, { head: 'scalar', lora: criticLora(o) }],
        [rm, { head: 'scalar' }],
      ] as const)
        loaded.push(await loadModel(device, folder, o, hooks, rest))
      const [actor, reference, critic, reward] = loaded as [LoadedModel, LoadedModel, LoadedModel, LoadedModel]
      const [a, r] = [actor.decoder, reward.decoder]
      if (a.spec.vocab !== r.spec.vocab)
        fail('ppo', `a reward model with the actor's vocabulary (${a.spec.vocab})`, `${r.spec.vocab} in ${rm}`, 'a reward model trained with the same tokenizer')
      const need = o.maxPromptSeqLen + o.maxAnswerSeqLen
      const room = Math.min(a.maxPositions, r.maxPositions)
      if (need > room)
        fail('ppo', `prompts and answers of at most ${room} tokens together, as the models' positions allow`, `${o.maxPromptSeqLen} + ${o.maxAnswerSeqLen}`, 'a smaller --max-prompt-seq-len or --max-answer-seq-len')
      if (reward.valueHeadIsFresh)
        fail('ppo', `a reward model in ${rm}`, 'a language model without a value head', '`threefold reward` to train one; --actor-model-name-or-path and --critic-model-name-or-path may be swapped')
      a.gradientCheckpointing = o.actorGradientCheckpointing
      critic.decoder.gradientCheckpointing = o.criticGradientCheckpointing
      return new PpoModels(actor, reference, critic, reward)
    } catch (error) {
      for (const m of loaded) m.dispose()
      throw error
    }
  }

  get scoring(): ScoringModels {
    return { reference: this.reference.decoder, critic: this.critic.decoder, reward: this.reward.decoder }
  }

  dispose(): void {
    for (const m of [this.actor, this.reference, this.critic, this.reward]) m.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
