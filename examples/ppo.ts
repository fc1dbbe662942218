// PPO: the SFT model learns to answer as the reward model likes, with a penalty for drifting away from where it began.
//
//   npx tsx examples/ppo.ts <SFT model folder> <reward model folder> <prompts.jsonl> <output folder>
//
// Rows: {"prompt": ...}; rows with answers are fine too, the answers play no part.
import { Progress, ppo } from '../lib/index.js'

const [actorModelNameOrPath, criticModelNameOrPath, data, outputDir] = process.argv.slice(2)
if (!actorModelNameOrPath || !criticModelNameOrPath || !data || !outputDir)
  throw new Error('usage: npx tsx examples/ppo.ts <SFT model folder> <reward model folder> <prompts.jsonl> <output folder>')

const { actor, before, after } = await ppo(
  {
    actorModelNameOrPath,
    criticModelNameOrPath,
    dataPath: [data],
    outputDir,
    evalFraction: 0.1,
    maxPromptSeqLen: 64,
    maxAnswerSeqLen: 32,
    actorLearningRate: 1e-4,
    criticLearningRate: 5e-4,
    numWarmupSteps: 5,
    checkLogprobs: true,
  },
  { progress: new Progress(process.stderr) },
)
console.log(`held-out score ${before?.score.toFixed(3)} -> ${after?.score.toFixed(3)}, KL from the SFT model ${after?.kl.toFixed(3)}`)
console.log(`the actor is in ${actor}`)
