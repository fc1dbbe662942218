// GRPO with rewards from a function: no critic, no reward model.
//
//   npx tsx examples/grpo.ts <SFT model folder> <prompts.jsonl> <judge.mjs> <output folder>
//
// Rows: {"prompt": ...}. judge.mjs: export default (rows) => rows.map(({ prompt, answer }) => a number)
import { Progress, ppo } from '../lib/index.js'

const [actorModelNameOrPath, data, rewardFunction, outputDir] = process.argv.slice(2)
if (!actorModelNameOrPath || !data || !rewardFunction || !outputDir)
  throw new Error('usage: npx tsx examples/grpo.ts <SFT model folder> <prompts.jsonl> <judge.mjs> <output folder>')

const { actor, before, after } = await ppo(
  {
    algorithm: 'grpo',
    groupSize: 8,
    klCoef: 0.02,
    actorModelNameOrPath,
    rewardFunction,
    dataPath: [data],
    outputDir,
    evalFraction: 0.1,
    maxPromptSeqLen: 64,
    maxAnswerSeqLen: 32,
    actorLearningRate: 1e-4,
    numWarmupSteps: 5,
  },
  { progress: new Progress(process.stderr) },
)
console.log(`held-out reward ${before?.score.toFixed(3)} -> ${after?.score.toFixed(3)}, KL from the SFT model ${after?.kl.toFixed(3)}`)
console.log(`the actor is in ${actor}`)
