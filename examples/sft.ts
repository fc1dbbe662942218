// Supervised fine-tuning, then one answer of the new model.
//
//   npx tsx examples/sft.ts <model folder> <rows.jsonl> <output folder>
//
// Rows: {"prompt": ..., "response": ...} or {"prompt": ..., "chosen": ..., "rejected": ...}, one on each line.
import { Model, Progress, sft } from '../lib/index.js'

const [modelNameOrPath, data, outputDir] = process.argv.slice(2)
if (!modelNameOrPath || !data || !outputDir) throw new Error('usage: npx tsx examples/sft.ts <model folder> <rows.jsonl> <output folder>')

const { model, before, after } = await sft(
  {
    modelNameOrPath,
    dataPath: [data],
    outputDir,
    evalFraction: 0.1,
    maxSeqLen: 64,
    learningRate: 1e-3,
    numTrainEpochs: 2,
  },
  { progress: new Progress(process.stderr) },
)
console.log(`held-out perplexity ${before?.perplexity.toFixed(2)} -> ${after?.perplexity.toFixed(2)}`)

using trained = await Model.load(model!)
for await (const piece of trained.stream('\n\nHuman: Hello!\n\nAssistant:', { maxNewTokens: 32, stop: '\n\nHuman:' })) process.stdout.write(piece)
process.stdout.write('\n')
