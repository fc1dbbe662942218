// Contract 3 the hard way: `kill -9` at random moments of a small PPO run with all features on; each run goes on to the same end.
// THREEFOLD_KILLS=100 npm test -- killed kills so many runs and prints the count.
import { spawn } from 'node:child_process'
import { readFile, readdir } from 'node:fs/promises'
import { extname, join } from 'node:path'

import test from 'ava'

import { RandomSequence } from '../../../lib/base/random.js'
import { listCheckpoints } from '../../../lib/checkpoint/runCheckpoint.js'
import { reward } from '../../../lib/stages/reward.js'
import { writeLines } from '../data/support.js'
import { readLines, makeSetting } from './support.js'

const kills = Number(process.env['THREEFOLD_KILLS'] ?? 5)
const script = join(import.meta.dirname, `killedRun${extname(import.meta.filename)}`)

/** Runs to its end, or until it is killed `afterMs` milliseconds after its first line of metrics. Gives whether it ended. */
async function run(options: { outputDir: string }, killAfterMs: number | null): Promise<boolean> {
  const child = spawn(process.execPath, [...process.execArgv, script, JSON.stringify(options)], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  if (killAfterMs !== null) {
    const lines = async (): Promise<number> => (await readFile(join(options.outputDir, 'metrics.jsonl'), 'utf8').catch(() => '')).length
    const before = await lines()
    let over = false
    void ended.then(() => (over = true))
    while (!over && (await lines()) === before) await new Promise((resolve) => setTimeout(resolve, 2))
    setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  }
  const code = await ended
  if (code !== 0 && killAfterMs === null) throw new Error(said)
  return code === 0
}

const clocks = /^(time|timing_s\/.*)$/
async function outcome(folder: string): Promise<unknown> {
  const sums = await Promise.all(['actor', 'critic', 'actor-ema'].map((m) => readFile(join(folder, m, 'checksums.json'), 'utf8')))
  const metrics = (await readLines(folder, 'metrics')).map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !clocks.test(key))))
  return { sums, metrics, samples: await readLines(folder, 'samples') }
}

test(`kill -9 at ${kills} random moments of PPO: each resumed run ends bit-equal to the uninterrupted one`, async (t) => {
  t.timeout(60_000 + 30_000 * kills)
  const { folder, model, data } = await makeSetting(t)
  const critic = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, maxSteps: 3, outputDir: join(folder, 'critic') })).model!
  const texts = await writeLines(folder, 'texts.jsonl', Array.from({ length: 12 }, (_, i) => ({ text: `text ${'and more '.repeat(i % 3)}of number ${i}.` })))
  const options = {
    actorModelNameOrPath: model,
    criticModelNameOrPath: critic,
    dataPath: [data],
    evalFraction: 0.2,
    maxPromptSeqLen: 20,
    maxAnswerSeqLen: 5,
    perDeviceGenerationBatchSize: 12,
    perDeviceTrainingBatchSize: 4,
    numTrainEpochs: 3,
    ppoEpochs: 2,
    numWarmupSteps: 2,
    criticWarmupSteps: 2,
    actorLearningRate: 1e-3,
    criticLearningRate: 1e-3,
    rewardClip: 0,
    actorGradientCheckpointing: true,
    enableEma: true,
    unsupervisedDatasetName: texts,
    unsupCoef: 0.5,
    actorLoraDim: 3,
    criticLoraDim: 2,
    loraDropout: 0.2,
    criticDropout: 0.1,
    normalizeRewards: true,
    klTarget: 0.05,
    klHorizon: 50,
    stopKl: 0.01,
    saveSteps: 3,
    threads: 1,
  }
  const whole = { ...options, outputDir: join(folder, 'whole') }
  const started = performance.now()
  await run(whole, null)
  const lasted = performance.now() - started
  const expected = await outcome(whole.outputDir)

  const random = new RandomSequence(Number(process.env['THREEFOLD_KILLS_SEED'] ?? Date.now() % 1e6), 0)
  let equal = 0
  let killed = 0
  for (let i = 0; killed < kills; i++) {
    const outputDir = join(folder, `killed-${i}`)
    // several kills of one run as chance has it; a third of the time a run takes holds its steps
    while (!(await run({ ...options, outputDir }, (random.below(1000) / 1000) * 0.4 * lasted))) {
      killed++
      const left = (await readdir(outputDir)).filter((name) => name !== 'checkpoints')
      t.true(left.includes('config.json'), left.join())
      for (const { folder: c } of await listCheckpoints(outputDir)) t.true((await readdir(c)).includes('checksums.json'), 'what has its name is whole')
    }
    t.deepEqual(await outcome(outputDir), expected)
    equal++
  }
  t.log(`${killed} kills, ${equal} runs to the end, all bit-equal to the uninterrupted one`)
})
