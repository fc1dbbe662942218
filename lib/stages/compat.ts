// Details of --compat deepspeed-chat that the reward stage and PPO share.
import { fail } from '../base/errors.js'
import type { LoadedModel } from '../checkpoint/model.js'

/** The padding token: --pad-token-id, else the model's end token, as DeepSpeed-Chat has it for all tokenizers but LLaMA's. */
export function paddingToken({ padTokenId }: { padTokenId: number | null }, { decoder, eosIds }: LoadedModel): number {
  const id = padTokenId ?? eosIds[0] ?? fail('--compat', 'a model with an end token, which is also the padding', 'none', '--pad-token-id')
  if (id >= decoder.spec.vocab) fail('--pad-token-id', `an id below the vocabulary size ${decoder.spec.vocab}`, String(id), 'the id of the padding token')
  return id
}

/** Error: a reward loss that is not the one --compat stands for. */
export function checkRewardLoss({ compat, rewardLoss }: { compat: string; rewardLoss?: string | undefined }): void {
  if (compat === 'deepspeed-chat' && rewardLoss === 'last')
    fail('--reward-loss', 'every-position, which is what DeepSpeed-Chat has, with --compat deepspeed-chat', 'last', 'leaving out one of the two')
}
