// A reward model from pairs of answers, then its scores of two answers to one prompt.
//
//   npx tsx examples/reward.ts <model folder> <pairs.jsonl> <output folder>
//
// Rows: {"prompt": ..., "chosen": ..., "rejected": ...}, one on each line.
import { Model, Progress, reward } from '../lib/index.js'

const [modelNameOrPath, data, outputDir] = process.argv.slice(2)
if (!modelNameOrPath || !data || !outputDir) throw new Error('usage: npx tsx examples/reward.ts <model folder> <pairs.jsonl> <output folder>')

const { model, after } = await reward(
  {
    modelNameOrPath,
    dataPath: [data],
    outputDir,
    evalFraction: 0.1,
    maxSeqLen: 64,
    learningRate: 3e-4,
  },
  { progress: new Progress(process.stderr) },
)
console.log(`accuracy on ${after?.pairs} held-out pairs: ${after?.accuracy.toFixed(3)}, 95 % interval ${after?.interval.map((x) => x.toFixed(3)).join(' to ')}`)

using judge = await Model.load(model!)
const prompt = '\n\nHuman: Hello!\n\nAssistant:'
const scores = await judge.score([' Hello, how can I help?', ' Go away.'].map((response) => ({ prompt, response })))
for (const s of scores) if ('score' in s) console.log(`score ${s.score.toFixed(4)} of ${s.inputIds.length} tokens`)
