// `eval` end to end on tiny models, against the stages' own figures and sums made by hand.
import { mkdtemp, readFile, readdir, rm as remove, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { Interrupted, UsageError } from '../../../lib/base/errors.js'
import { Progress } from '../../../lib/base/progress.js'
import { evaluate } from '../../../lib/stages/eval.js'
import type { EvalSample } from '../../../lib/stages/eval.js'
import { Model } from '../../../lib/stages/model.js'
import { reward } from '../../../lib/stages/reward.js'
import { sft } from '../../../lib/stages/sft.js'
import { failsWith, writeLines } from '../data/support.js'
import { makeModel, preferenceRows, stopAt } from './support.js'

const training = { perDeviceTrainBatchSize: 8, learningRate: 3e-3, lrSchedulerType: 'constant' as const, maxSeqLen: 48, threads: 2 }
const small = { maxNewTokens: 6, maxSeqLen: 48, threads: 2 }

interface Trained {
  folder: string
  model: string
  tuned: string
  judge: string
  /** The last 12 rows, which nothing was trained on. */
  held: string
  losses: { sft: number; accuracy: number; rewardLoss: number }
}

let trained: Trained
test.before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'threefold-eval-'))
  const model = await makeModel(folder)
  const [rows, rest] = [preferenceRows.slice(0, 36), preferenceRows.slice(36)]
  const data = [await writeLines(folder, 'train.jsonl', rows)]
  const held = await writeLines(folder, 'held.jsonl', rest)
  const options = { ...training, modelNameOrPath: model, dataPath: data, evalDataPath: [held] }
  const tuned = await sft({ ...options, numTrainEpochs: 10, outputDir: join(folder, 'sft') })
  const rm = await reward({ ...options, numTrainEpochs: 8, outputDir: join(folder, 'rm') })
  trained = { folder, model, tuned: tuned.model!, judge: rm.model!, held, losses: { sft: tuned.after!.loss, accuracy: rm.after!.accuracy, rewardLoss: rm.after!.loss } }
})
test.after.always(() => remove(trained.folder, { recursive: true, force: true }))

test.serial('figures agree with those of the stages, with the scores of Model, and with the samples', async (t) => {
  const { model, tuned, judge, held, folder, losses } = trained
  const outputDir = join(folder, 'deep', 'out')
  const result = await evaluate({ ...small, model: tuned, against: model, rewardModel: judge, dataPath: [held], outputDir })
  t.true(Math.abs(result.model!.perplexity!.loss - losses.sft) < 1e-5, 'the loss of sft on the same rows')
  t.is(result.model!.perplexity!.tokens, 12 * 3)
  t.is(result.reward!.pairs!.accuracy, losses.accuracy)
  t.true(Math.abs(result.reward!.pairs!.loss - losses.rewardLoss) < 1e-5)
  t.true(result.model!.perplexity!.perplexity < result.against!.perplexity!.perplexity)
  t.like(result.rows, { read: 12, skipped: 0, prompts: 12, answered: 12, promptsTooLong: 0, unscored: 0 })

  t.deepEqual((await readdir(outputDir)).sort(), ['eval.json', 'report.html', 'samples.jsonl'])
  t.deepEqual(JSON.parse(await readFile(join(outputDir, 'eval.json'), 'utf8')), JSON.parse(JSON.stringify(result)))
  const samples = (await readFile(join(outputDir, 'samples.jsonl'), 'utf8')).trimEnd().split('\n').map((line) => JSON.parse(line) as EvalSample)
  t.deepEqual(samples.map((s) => s.prompt), preferenceRows.slice(36).map((r) => r.prompt))
  using rm = await Model.load(judge)
  const end = rm.tokenizer!.eosId!
  for (const { prompt, responses, scores, finish, winner } of samples)
    for (const [i, text] of responses.entries()) {
      const ids = [...rm.tokenizer!.encodePrompt(prompt as string), ...rm.tokenizer!.encode(text, { special: false }), ...(finish[i] === 'stop' ? [end] : [])]
      const [score] = await rm.score([Int32Array.from(ids)])
      t.is('score' in score! ? score.score : null, scores[i]!)
      t.is(winner, scores[0]! > scores[1]! ? 'model' : scores[0]! < scores[1]! ? 'against' : 'tie')
    }
  const wins = samples.filter((s) => s.winner === 'model').length
  t.is(result.comparison!.wins, wins)
  const mean = samples.reduce((sum, s) => sum + s.scores[0]! - s.scores[1]!, 0) / 12
  t.true(Math.abs(result.comparison!.difference.mean - mean) < 1e-12)
  t.true(result.comparison!.winRate > 0.5 && mean > 0, 'training helped')
  t.true((await readFile(join(outputDir, 'report.html'), 'utf8')).includes('data-place="11"'))
})

test.serial('nothing depends on batches; a model against itself is a tie on every prompt', async (t) => {
  const { tuned, model, judge, held } = trained
  const figures = async (batchSize: number, batchTokens: number) => {
    const { seconds: _, settings: __, ...rest } = await evaluate({ ...small, model: tuned, against: model, rewardModel: judge, dataPath: [held], batchSize, batchTokens })
    return rest
  }
  t.deepEqual(await figures(1, 1), await figures(16, 4096))
  const same = await evaluate({ ...small, model: tuned, against: tuned, rewardModel: judge, dataPath: [held] })
  t.like(same.comparison, { wins: 0, losses: 0, ties: 12, winRate: 0.5, signTest: 1 })
  t.like(same.comparison!.difference, { mean: 0, standardError: 0, interval: [0, 0] })
  const other = await evaluate({ ...small, model: tuned, against: tuned, rewardModel: judge, dataPath: [held], seed: 5 })
  t.notDeepEqual(other.model!.answers, same.model!.answers, 'another seed draws others')
})

test.serial('each model alone, text and conversations, prompts that do not fit', async (t) => {
  const { tuned, judge, held, folder } = trained
  const alone = await evaluate({ rewardModel: judge, dataPath: [held], maxSeqLen: 48 })
  t.is(alone.model, null)
  t.is(alone.comparison, null)
  t.is(alone.reward!.pairs!.pairs, 12)
  const mixed = await writeLines(folder, 'mixed.jsonl', [
    { text: 'hello there' },
    { prompt: 'say a:' },
    { prompt: 'say a:', response: 'aa' },
    { prompt: `say ${'long '.repeat(8)}:` },
    { messages: [{ role: 'user', content: 'b' }, { role: 'assistant', content: 'bb' }] },
    { prompt: 'say c:', chosen: 'cc', rejected: 'zz' },
    { prompt: 'say b:', choice: 'skip', labeler: 'ann', responses: ['bb', 'zz'] },
  ])
  const notes: string[] = []
  const outputDir = join(folder, 'mixed-out')
  const result = await evaluate({ ...small, model: tuned, dataPath: [mixed], maxNewTokens: 4, outputDir }, { progress: new Progress({ write: (text: string) => notes.push(text) }) })
  t.is(result.model!.perplexity!.rows, 4)
  t.like(result.rows, { prompts: 4, answered: 3, promptsTooLong: 1, skipped: 1, read: 6 })
  t.regex(notes.join(''), /passed over 1 prompt over the limit/)
  t.is(result.model!.answers!.score, null)
  const prompts = (await readFile(join(outputDir, 'samples.jsonl'), 'utf8')).trimEnd().split('\n').map((line) => (JSON.parse(line) as EvalSample).prompt)
  t.deepEqual(prompts, ['say a:', [{ role: 'user', content: 'b' }], 'say c:'])
  const two = await evaluate({ ...small, model: tuned, dataPath: [held], evalPrompts: 2 })
  t.is(two.rows.answered, 2)
  const none = await evaluate({ ...small, model: tuned, dataPath: [held], evalPrompts: 0 })
  t.is(none.model!.answers, null)
})

test.serial('wrong use is refused before work', async (t) => {
  const { tuned, judge, held, folder } = trained
  const refused = async (given: object, ...words: string[]): Promise<void> => failsWith(t, () => evaluate({ ...small, dataPath: [held], ...given }), ...words)
  await refused({}, '[eval] expected --model or --reward-model, received neither')
  await t.throwsAsync(evaluate({ ...small, dataPath: [held], against: tuned, rewardModel: judge }), { instanceOf: UsageError, message: /\[--against\] expected --model beside it/ })
  await refused({ model: judge }, '[--model] expected a language model', 'received a reward model')
  await refused({ model: tuned, against: judge }, '[--against] expected a language model')
  await refused({ model: tuned, rewardModel: tuned }, '[--reward-model] expected a reward model', 'received a language model')
  await refused({ model: tuned, maxNewTokens: 48 }, '[--max-new-tokens]', 'in 48 positions')
  await refused({ model: tuned, maxPromptSeqLen: 2 }, 'a prompt of at most 2 tokens', '12 longer ones')
  await refused({ model: tuned, stopIds: ['x'] }, '[--stop-ids]')
  const prompts = await writeLines(folder, 'prompts.jsonl', [{ prompt: 'say a:' }])
  await refused({ rewardModel: judge, dataPath: [prompts] }, 'rows {prompt, chosen, rejected} for a reward model alone')
  await refused({ model: tuned, dataPath: [prompts], evalPrompts: 0 }, 'rows with a text, an answer or a prompt')
  const long = await writeLines(folder, 'long.jsonl', [{ prompt: 'p', chosen: 'y'.repeat(60), rejected: 'z' }])
  await refused({ model: tuned, rewardModel: judge, dataPath: [long] }, 'within --max-seq-len 48', 'none of 1')
  const seeded = await writeLines(folder, 'seeded.jsonl', [{ prompt: 'p', seed: -1 }])
  await refused({ model: tuned, dataPath: [seeded] }, 'a whole number of 0 or more as "seed"', 'seeded.jsonl line 1')
  await writeFile(join(folder, 'file'), '')
  await refused({ model: tuned, outputDir: join(folder, 'file', 'x') }, '[files] expected a folder that can be written')
})

test.serial('Ctrl-C ends it and leaves no result', async (t) => {
  const { tuned, held, folder } = trained
  const outputDir = join(folder, 'stopped')
  const { hooks } = stopAt(/answers of/)
  await t.throwsAsync(evaluate({ ...small, model: tuned, dataPath: [held], batchSize: 1, outputDir }, hooks), { instanceOf: Interrupted })
  t.deepEqual(await readdir(outputDir), [])
})
