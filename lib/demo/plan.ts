// The numbers of the demo: a model of about a million parameters and the settings of its four stages.

import { defaultSizes } from './world.js'
import type { WorldSizes } from './world.js'

export const plan = {
  sizes: defaultSizes as WorldSizes,
  vocabSize: 768,
  model: {
    model_type: 'opt',
    architectures: ['OPTForCausalLM'],
    hidden_size: 128,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    ffn_dim: 512,
    max_position_embeddings: 128,
    word_embed_proj_dim: 128,
    do_layer_norm_before: true,
    activation_function: 'relu',
    tie_word_embeddings: true,
    init_std: 0.05,
    dropout: 0,
  },
  pretrain: { learningRate: 3e-3, numTrainEpochs: 1, perDeviceTrainBatchSize: 16, maxSeqLen: 128, numWarmupSteps: 20, weightDecay: 0.01, maxSteps: 0 },
  sft: { learningRate: 5e-4, numTrainEpochs: 2, perDeviceTrainBatchSize: 32, numWarmupSteps: 5, maxSeqLen: 64, maxSteps: 0 },
  reward: { learningRate: 7e-4, numTrainEpochs: 4, perDeviceTrainBatchSize: 32, numWarmupSteps: 10, maxSeqLen: 64, centerRewardsCoefficient: 0.02, maxSteps: 0 },
  ppo: {
    // Steps in proportion to what the reward model tells: scores not whitened and an epsilon far above the gradient's elements,
    // so that AdamW does not blow noise up to full steps. With a reward model that knows nothing the actor then stays where it
    // is; otherwise noise alone sharpens it, and its likeliest answers are better than its others. Lambda 1 keeps the critic's
    // errors out of the advantages' mean; answers are too short to need less.
    actorLearningRate: 1.5e-3,
    criticLearningRate: 3e-3,
    numTrainEpochs: 5,
    maxSteps: 0,
    perDeviceGenerationBatchSize: 256,
    perDeviceTrainingBatchSize: 128,
    ppoEpochs: 2,
    numWarmupSteps: 10,
    criticWarmupSteps: 8,
    adamBeta2: 0.99,
    adamEps: 3e-3,
    rewardClip: 0,
    valueClipRange: 5,
    // Scores are centred and right and wrong lie some 5 apart, so this penalty leaves room to prefer right answers; a much
    // weaker one lets the actor drift into wordings that the reward model happens to like.
    klCoef: 0.3,
    gaeLambda: 1,
    maxPromptSeqLen: 64,
    maxAnswerSeqLen: 24,
    lrSchedulerType: 'linear' as const,
  },
  /** Shares of the preference rows for SFT, reward model and PPO: the reward model needs the most. */
  dataSplit: '1,11,6',
  evalFraction: 0.05,
  maxAnswer: 24,
}

export type Plan = typeof plan

/** A few steps of every stage, and few prompts to judge: what a slow device can do in a minute or two. */
export const quickPlan: Plan = {
  ...plan,
  sizes: { pretrainTexts: 400, preferenceRows: 300, testPrompts: 8 },
  pretrain: { ...plan.pretrain, perDeviceTrainBatchSize: 2, maxSteps: 3 },
  sft: { ...plan.sft, perDeviceTrainBatchSize: 8, maxSteps: 2 },
  reward: { ...plan.reward, perDeviceTrainBatchSize: 4, maxSteps: 2 },
  ppo: { ...plan.ppo, perDeviceGenerationBatchSize: 8, perDeviceTrainingBatchSize: 4, numTrainEpochs: 1, ppoEpochs: 1, maxSteps: 2, maxAnswerSeqLen: 8 },
  maxAnswer: 8,
}
