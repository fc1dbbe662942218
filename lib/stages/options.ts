// Every option of every stage, declared once: DeepSpeed-Chat's names and defaults where it has one; docs/deepspeed-chat.md
// lists the differences. The command line turns the keys into kebab-case flags.
import { needing, option } from '../base/options.js'
import { scheduleNames } from '../optim/schedules.js'
import { dpoLossTypes } from '../rlhf/dpoLoss.js'
import { klEstimators } from '../rlhf/kl.js'
import { defaultDtype, devicePattern } from '../tensor/device.js'

const ZERO = 'ZeRO sharding'

/** Where and how to run. */
export const machineOptions = {
  device: option.pattern('cpu', devicePattern, 'cpu, cuda, cuda:N (the N-th GPU) or emulated (CUDA kernels run by the CPU, slowly)'),
  dtype: option.choice('fp32', ['fp32', 'bf16', 'fp16'], 'storage of weights and activations, on cuda bf16 unless given; sums are fp32; fp16 trains under a dynamic loss scale', ({ device = 'cpu' }) => defaultDtype(device as string)),
  threads: option.integer(0, 'compute threads, 0 = all cores; never changes a result', { min: 0, max: 1024 }),
  seed: option.integer(1234, 'every random number follows from it', { min: 0, max: Number.MAX_SAFE_INTEGER }),
}

/** What a training run writes. */
export const outputOptions = {
  outputDir: option.optionalText('folder of the run; without it nothing is kept'),
  enableTensorboard: option.flag(false, 'also write the metrics as events for TensorBoard'),
  ...needing(['enableTensorboard'], { tensorboardPath: option.optionalText('folder of the events; without it tensorboard in the output folder') }),
}

/** When a run saves itself into D/checkpoints, and what it goes on from. */
export const saveOptions = {
  saveSteps: option.integer(0, 'save a checkpoint every so many optimizer steps; 0 = by time only', { min: 0, unit: 'steps' }),
  saveSeconds: option.number(600, 'save a checkpoint when so many seconds have passed; 0 = off', { min: 0, unit: 'seconds' }),
  keepLast: option.integer(2, 'how many of the newest checkpoints stay', { min: 1 }),
  keepEvery: option.integer(0, 'also keep those of steps that are a multiple of this; 0 = none', { min: 0, unit: 'steps' }),
  resume: option.choice('auto', ['auto', 'changed', 'never'], 'auto: go on from the last checkpoint, if the options are the same; changed: whatever the options; never: start anew'),
}

/** Which rows to train on. */
export const dataOptions = {
  dataPath: option.requiredTexts('JSONL, JSON, CSV (.gz too) or Parquet files, folders of them, or hub ids'),
  dataWeights: option.optionalText('how often the rows of each data path are seen, e.g. 1,0.5: half of the rows of the second'),
  columns: option.optionalText('fields of the rows by other names, e.g. prompt=question,chosen=best,rejected=worst'),
  dataSplit: option.optionalText('shares of the rows for SFT, reward and PPO, e.g. 2,4,4; without it a stage uses all rows'),
  evalDataPath: option.texts('held-out rows, or none; without it --eval-fraction, or the test split of a data folder'),
  evalFraction: option.number(0, 'share of the rows held out for evaluation', { min: 0, max: 0.99 }),
  dataOutputPath: option.optionalText('folder of tokenised rows, read back when nothing changed; none = in memory; without it the user cache, for sets over 4 MB'),
  maxSeqLen: option.integer(512, 'longest row; longer ones are dropped and counted', { min: 2, unit: 'tokens' }),
}

/** How to train one model. */
export const trainOptions = {
  perDeviceTrainBatchSize: option.integer(16, 'rows per micro-batch', { min: 1, unit: 'rows' }),
  perDeviceEvalBatchSize: option.integer(16, 'rows per evaluation batch', { min: 1, unit: 'rows' }),
  gradientAccumulationSteps: option.integer(1, 'micro-batches per optimizer step', { min: 1 }),
  weightDecay: option.number(0, 'decoupled decay of matrices (not of biases and norms)', { min: 0 }),
  numTrainEpochs: option.integer(1, 'times over the data', { min: 1 }),
  maxSteps: option.integer(0, 'stop after this many optimizer steps; 0 = all epochs', { min: 0 }),
  lrSchedulerType: option.choice('cosine', scheduleNames, 'learning-rate schedule, as in transformers'),
  numWarmupSteps: option.integer(0, 'steps of linear warm-up', { min: 0 }),
  adamBeta1: option.number(0.9, 'AdamW beta 1', { min: 0, max: 0.999999 }),
  adamBeta2: option.number(0.95, 'AdamW beta 2', { min: 0, max: 0.999999 }),
  adamEps: option.number(1e-8, 'AdamW epsilon', { min: 0 }),
  maxGradNorm: option.number(1, 'clip the global gradient norm; 0 = off', { min: 0 }),
  maxSkippedSteps: option.integer(10, 'end the run after this many steps in a row without a finite loss and gradient', { min: 1 }),
  evalInterval: option.integer(0, 'evaluate every so many steps; 0 = before and after training only', { min: 0 }),
}

// Flags of DeepSpeed-Chat's programs for what comes later (`later`: refused where it would change something) and for what
// is not there or is off (`unused`: any value), so that its command lines can be kept.

const everyProgram = {
  localRank: option.later(-1, 'the launcher', [-1, 0]),
  deepspeed: option.unused(false, 'there is no DeepSpeed below'),
  deepspeedConfig: option.optionalText('ds_config.json: what has a meaning here is taken from it, "auto" is the value of the flag'),
  offload: option.later(false, ZERO),
  addEotToken: option.unused(false, "every answer ends with the tokenizer's own end token, which is one token"),
  computeFp32Loss: option.unused(true, 'the loss is always fp32'),
}

const oneModel = {
  ...everyProgram,
  zeroStage: option.later(0, ZERO),
}

const sftLater = {
  ...oneModel,
  eotToken: option.unused(null, "every answer ends with the tokenizer's own end token"),
}

const rewardLater = {
  ...oneModel,
}

const noOffloadedReference = { offloadReferenceModel: option.later(false, ZERO) }

const dpoLater = { ...oneModel, ...noOffloadedReference }

const ppoLater = {
  ...everyProgram,
  actorZeroStage: option.later(0, ZERO),
  criticZeroStage: option.later(0, ZERO),
  ...noOffloadedReference,
  offloadRewardModel: option.later(false, ZERO),
  enableMixedPrecisionLora: option.later(false, `${ZERO} and LoRA`),
  preprocessingNumWorkers: option.unused(0, 'the threads of --threads tokenise'),
  enableHybridEngine: option.unused(true, 'training and generation are one engine'),
  unpinActorParameters: option.unused(false, 'a detail of the Hybrid Engine, which is not there'),
  releaseInferenceCache: option.unused(false, 'the KV cache is freed after the rollouts'),
  inferenceTpSize: option.later(1, 'tensor parallelism'),
  tpGatherPartitionSize: option.unused(8, 'a detail of --inference-tp-size above 1'),
}

/** Those of all programs; `train` takes each once. */
export const laterOptions = { ...sftLater, ...rewardLater, ...ppoLater }

const dropout = option.number(0, "share of activations dropped in training, wherever transformers drops for the model's family; 0 = off", { min: 0, max: 0.99 })
const checkpointing = option.flag(false, "keep only each layer's input for backward and compute the rest again: less memory, more time, the same bits")

const loraDim = option.integer(0, "rank of LoRA's factors; 0 = off", { min: 0, max: 4096 })
const loraModuleName = option.texts("parts of the names of the linear modules that get factors; without it all of the layers'")
const loraLearningRate = option.number(5e-4, "peak learning rate of LoRA's factors", { min: 0 })
const loraShared = {
  loraAlpha: option.number(0, 'the factors weigh alpha / rank; 0 = alpha is the rank', { min: 0 }),
  loraDropout: option.number(0, 'share of the ranks that a training step leaves out', { min: 0, max: 0.99 }),
  onlyOptimizeLora: option.flag(false, 'freeze everything but the factors (and the value head of a reward model)'),
}

/** In which form one model trains. */
const formOptions = { dropout, gradientCheckpointing: checkpointing, loraDim, ...needing(['loraDim'], { loraModuleName, loraLearningRate, ...loraShared }) }

/** Where a run computes, and what it leaves. */
const runOptions = { ...machineOptions, ...outputOptions, ...saveOptions }

/** Numbers as DeepSpeed-Chat has them where they differ on purpose. */
export const compatOptions = {
  compat: option.choice('none', ['none', 'deepspeed-chat'], "deepspeed-chat: its reward loss, and its place of the score, values and counted tokens in PPO"),
  padTokenId: option.optionalInteger('of --compat: the padding token; without it the end token', { min: 0 }),
  numPaddingAtBeginning: option.integer(1, "of --compat, reward: padding tokens before a row (1 for OPT's start token, else 0)", { min: 0 }),
}

const modelOption = { modelNameOrPath: option.requiredText('model folder in the Hugging Face layout') }

const printLoss = option.flag(false, 'a line on the terminal for the loss of each step')

/** Of next-token training. */
const languageOptions = {
  sftOnlyDataPath: option.texts('further rows, as --data-path, that --data-split does not divide: all are for this step'),
  printLoss,
}

export const pretrainOptions = {
  ...modelOption,
  ...dataOptions,
  ...languageOptions,
  learningRate: option.number(1e-3, 'peak learning rate', { min: 0 }),
  ...trainOptions,
  ...formOptions,
  ...runOptions,
  ...sftLater,
}

export const sftOptions = {
  ...modelOption,
  ...dataOptions,
  ...languageOptions,
  lossOn: option.choice('response', ['response', 'all'], 'which tokens count'),
  learningRate: option.number(1e-3, 'peak learning rate', { min: 0 }),
  ...trainOptions,
  ...formOptions,
  ...runOptions,
  ...sftLater,
}

export const rewardOptions = {
  ...modelOption,
  ...dataOptions,
  learningRate: option.number(5e-5, 'peak learning rate', { min: 0 }),
  ...trainOptions,
  ...formOptions,
  rewardLoss: option.choice('last', ['last', 'every-position'], 'scores compared: at the last tokens, or at every position from where two answers part to the shorter end', ({ compat }) => (compat === 'none' ? 'last' : 'every-position')),
  ...compatOptions,
  rewardEnsemble: option.texts('further reward models, such as ones of other seeds: how often they agree with this one on the held-out rows'),
  centerRewardsCoefficient: option.number(0, 'weight of a term that keeps scores around 0; 0 = off', { min: 0 }),
  evalIters: option.integer(0, 'batches of an evaluation, of held-out rows chosen by the seed; 0 = all', { min: 0, unit: 'batches' }),
  shuffleLabels: option.flag(false, 'swap chosen and rejected at random: a control that must learn nothing'),
  ...runOptions,
  ...rewardLater,
}

export const dpoOptions = {
  ...modelOption,
  referenceModelNameOrPath: option.optionalText('the frozen reference; without it the model that training starts from'),
  ...dataOptions,
  beta: option.number(0.1, 'strength of the pull towards the reference', { min: 1e-6 }),
  labelSmoothing: option.number(0, 'assumed share of swapped labels (cDPO); for --loss-type sigmoid', { min: 0, max: 0.5 }),
  lossType: option.choice('sigmoid', dpoLossTypes, 'sigmoid is DPO'),
  lengthNormalize: option.flag(false, 'compare mean log-probs per answer token, not sums: as TRL does for ipo'),
  referenceFree: option.flag(false, 'no reference: all its log-probs are taken to be 0'),
  precomputeReference: option.flag(false, "the reference's log-probs in one pass before training, which then runs without it: less memory, the same bits"),
  learningRate: option.number(1e-3, 'peak learning rate', { min: 0 }),
  ...trainOptions,
  printLoss,
  ...formOptions,
  ...runOptions,
  ...dpoLater,
}

const { perDeviceTrainBatchSize: _t, perDeviceEvalBatchSize: _e, weightDecay: _w, ...ppoTrain } = trainOptions
const { maxSeqLen: _s, ...ppoData } = dataOptions

/** 8 where answers are compared, as in TRL. */
const groupSize = { ...option.integer(1, 'answers to each prompt; 8 for grpo and rloo', { min: 1, unit: 'answers' }), derive: ({ algorithm }: Record<string, unknown>) => (algorithm === 'ppo' ? 1 : 8) }

export const ppoOptions = {
  actorModelNameOrPath: option.requiredText('the SFT model: where the actor starts, and the reference'),
  criticModelNameOrPath: option.optionalText('the reward model: what gives rewards, and where the critic starts; needed unless --reward-function does the one and --algorithm does without the other'),
  algorithm: option.choice('ppo', ['ppo', 'grpo', 'rloo'], 'ppo has a critic; grpo and rloo compare the answers to one prompt'),
  groupSize,
  grpoScaleRewards: option.choice('group', ['group', 'none'], "of grpo: divide by the deviation of the group's rewards, or not (Dr. GRPO)"),
  rewardFunction: option.optionalText('JavaScript module (.mjs, .js) whose default export gives rewards: (rows) => numbers'),
  ...needing(['rewardFunction'], { rewardFunctionSeconds: option.number(600, 'longest that one call of --reward-function may take; 0 = no limit', { min: 0, unit: 'seconds' }) }),
  rewardFrom: option.choice('model', ['model', 'function', 'both'], 'what gives rewards, both: their sum; function where --reward-function is given', ({ rewardFunction }) => (rewardFunction === null ? 'model' : 'function')),
  rewardEnsemble: option.texts("further reward models, such as ones of other seeds: the score is then the mean of all less a share of their spread"),
  ...needing(['rewardEnsemble'], { ensembleSpreadCoef: option.number(1, 'of --reward-ensemble: how many standard deviations of the scores are taken from their mean', { min: 0 }) }),
  ...ppoData,
  maxPromptSeqLen: option.integer(256, 'longest prompt; longer ones are dropped and counted', { min: 1, unit: 'tokens' }),
  maxAnswerSeqLen: option.integer(256, 'longest answer', { min: 1, unit: 'tokens' }),
  perDeviceGenerationBatchSize: option.integer(16, 'prompts per rollout batch, --group-size answers to each', { min: 1, unit: 'prompts' }),
  perDeviceTrainingBatchSize: option.integer(16, 'rollouts per micro-batch', { min: 1, unit: 'rollouts' }),
  generationBatches: option.integer(1, 'rollout batches before the updates', { min: 1 }),
  ppoEpochs: option.integer(1, 'times over each experience', { min: 1 }),
  actorLearningRate: option.number(9.65e-6, 'peak learning rate of the actor', { min: 0 }),
  criticLearningRate: option.number(5e-6, 'peak learning rate of the critic', { min: 0 }),
  actorWeightDecay: option.number(0, 'decoupled decay of the actor', { min: 0 }),
  criticWeightDecay: option.number(0, 'decoupled decay of the critic', { min: 0 }),
  ...ppoTrain,
  numWarmupSteps: option.integer(100, 'steps of linear warm-up', { min: 0 }),
  actorDropout: dropout,
  criticDropout: dropout,
  actorGradientCheckpointing: checkpointing,
  criticGradientCheckpointing: checkpointing,
  actorLoraDim: loraDim,
  criticLoraDim: loraDim,
  ...needing(['actorLoraDim'], { actorLoraModuleName: loraModuleName }),
  ...needing(['criticLoraDim'], { criticLoraModuleName: loraModuleName }),
  ...needing(['actorLoraDim'], { actorLoraLearningRate: loraLearningRate }),
  ...needing(['criticLoraDim'], { criticLoraLearningRate: loraLearningRate }),
  ...needing(['actorLoraDim', 'criticLoraDim'], loraShared),
  criticWarmupSteps: option.integer(0, 'steps at the start that train the critic only', { min: 0 }),
  klCoef: option.number(0.1, 'weight of the KL penalty', { min: 0 }),
  klIn: option.choice('reward', ['reward', 'loss'], "where the KL penalty stands: in the reward of each answer, or per token in the actor's loss; loss for grpo", ({ algorithm }) => (algorithm === 'grpo' ? 'loss' : 'reward')),
  klEstimator: option.choice('k1', klEstimators, 'estimator of the KL penalty; k3 where it is in the loss', ({ klIn }) => (klIn === 'loss' ? 'k3' : 'k1')),
  klTarget: option.number(0, 'KL from the reference, per answer, that an adaptive --kl-coef aims at; 0 = --kl-coef stays', { min: 0, unit: 'nats' }),
  ...needing(['klTarget'], { klHorizon: option.number(10000, 'answers over which an adaptive --kl-coef changes by a fifth at most', { min: 1, unit: 'answers' }) }),
  stopKl: option.number(0, 'end the updates of an experience once the actor is this far from what sampled it, per token; 0 = never', { min: 0, unit: 'nats' }),
  rewardClip: option.number(5, 'clip the score to [-c, c]; 0 = off', { min: 0 }),
  ...compatOptions,
  numPaddingAtBeginning: option.unused(1, 'PPO of DeepSpeed-Chat has no use for it either'),
  normalizeRewards: option.flag(false, 'pay scores less their mean and by their deviation over all answers so far'),
  maskTruncated: option.flag(false, 'answers cut by their limit teach nothing'),
  missingEosPenalty: option.number(0, 'taken from the score of an answer cut by its limit', { min: 0, unit: 'score' }),
  alignOverflow: option.flag(false, 'skip the step of both actor and critic where the gradients of either are not finite'),
  enableEma: option.flag(false, 'also keep a moving average of the actor, saved as D/actor-ema'),
  ...needing(['enableEma'], { emaDecay: option.number(0.992, 'of --enable-ema, at each applied step', { min: 0, max: 1 }) }),
  gamma: option.number(1, 'discount', { min: 0, max: 1 }),
  gaeLambda: option.number(0.95, 'lambda of generalised advantage estimation', { min: 0, max: 1 }),
  clipRange: option.number(0.2, 'clip of the policy ratio', { min: 0 }),
  valueClipRange: option.number(0.2, 'clip of the value change', { min: 0 }),
  entropyCoef: option.number(0, "weight of the mean entropy in the actor's loss: keeps it from sharpening on noise; 0 = off", { min: 0 }),
  whitenAdvantages: option.flag(false, 'advantages to mean 0 and deviation 1 over the experience'),
  unsupervisedDatasetName: option.optionalText("texts whose next-token loss is mixed into the actor's (PPO-ptx): files, a folder or a hub id; none = nothing is"),
  ...needing(['unsupervisedDatasetName'], {
    unsupervisedDatasetConfigName: option.optionalText('folder of --unsupervised-dataset-name to take, such as wikitext-2-raw-v1'),
    unsupCoef: option.number(27.8, "weight of the texts' loss", { min: 0 }),
  }),
  temperature: option.number(1, 'sampling temperature of rollouts', { min: 0.01 }),
  topK: option.integer(0, 'keep the k likeliest tokens; 0 = off', { min: 0 }),
  topP: option.number(1, 'keep the likeliest tokens up to this probability', { min: 0.001, max: 1 }),
  allowCutSampling: option.flag(false, 'allow top-k and top-p although recorded log-probs are before the cut'),
  stop: option.texts('texts that end an answer'),
  kvPageSize: option.integer(16, 'tokens per page of the KV cache', { min: 1 }),
  checkLogprobs: option.flag(false, 'recompute every recorded log-prob before the first update and report the gap'),
  evalPrompts: option.integer(128, 'held-out prompts scored before and after training, and every --eval-interval steps', { min: 0 }),
  enableTestMode: option.flag(false, 'end after --test-stop-step steps; the schedules stay those of the whole run'),
  ...needing(['enableTestMode'], { testStopStep: option.integer(0, 'of --enable-test-mode: applied optimizer steps; 0 = all', { min: 0, unit: 'steps' }) }),
  sampleRows: option.integer(2, 'answers of each experience that go to samples.jsonl, with the numbers of each token', { min: 0, unit: 'rows' }),
  printAnswers: option.flag(false, 'show these answers on the terminal too'),
  ...needing(['printAnswers'], { printAnswersInterval: option.integer(1, 'of --print-answers: every so many experiences', { min: 1, unit: 'experiences' }) }),
  ...runOptions,
  ...ppoLater,
}
