// Direct preference optimisation: an SFT model learns from pairs of answers, without a reward model and without PPO.
//
//   npx tsx examples/dpo.ts <SFT model folder> <pairs.jsonl> <output folder>
//
// Rows: {"prompt": ..., "chosen": ..., "rejected": ...}, one on each line.
import { Model, Progress, dpo } from '../lib/index.js'

const [modelNameOrPath, data, outputDir] = process.argv.slice(2)
if (!modelNameOrPath || !data || !outputDir) throw new Error('usage: npx tsx examples/dpo.ts <SFT model folder> <pairs.jsonl> <output folder>')

const { model, before, after } = await dpo(
  {
    modelNameOrPath,
    dataPath: [data],
    outputDir,
    evalFraction: 0.1,
    maxSeqLen: 64,
    learningRate: 1e-4,
    precomputeReference: true,
  },
  { progress: new Progress(process.stderr) },
)
console.log(`accuracy on ${after?.pairs} held-out pairs: ${after?.accuracy.toFixed(3)}, loss ${before?.loss.toFixed(3)} -> ${after?.loss.toFixed(3)}`)

using trained = await Model.load(model!)
for await (const piece of trained.stream('\n\nHuman: Hello!\n\nAssistant:', { maxNewTokens: 32, stop: '\n\nHuman:' })) process.stdout.write(piece)
process.stdout.write('\n')
