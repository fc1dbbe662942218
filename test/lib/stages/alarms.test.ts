// Each alarm provoked by hand: it speaks once, stays on, clears, and speaks again; a healthy run hears nothing.
import { join } from 'node:path'

import test from 'ava'

import { Alarms } from '../../../lib/stages/alarms.js'
import type { AlarmState, ExperienceReading } from '../../../lib/stages/alarms.js'
import { Progress } from '../../../lib/base/progress.js'
import { ppo } from '../../../lib/stages/ppo.js'
import { reward } from '../../../lib/stages/reward.js'
import { makeSetting, readLines, steps } from './support.js'

const healthy: ExperienceReading = { scores: 1, rlhfReward: 0.8, kl: 2, length: 40, lengthStd: 12, cut: 0.2, clipped: 0.1 }
/** Names of what is said, over all readings. */
const said = (all: readonly string[][]): string[] => all.flat().map((text) => /^alarm (\w+): (over\.)?/.exec(text)!.slice(1).filter(Boolean).join(' '))
const see = (alarms: Alarms, readings: readonly Partial<ExperienceReading>[]): string[] => said(readings.map((r) => alarms.seeExperience({ ...healthy, ...r })))
const times = <T>(n: number, value: T): T[] => Array.from({ length: n }, () => value)

test('an alarm speaks once, is on, and is over after three quiet experiences', (t) => {
  const alarms = new Alarms()
  t.deepEqual(see(alarms, times(3, {})), [])
  const [text] = alarms.seeExperience({ ...healthy, kl: 20.4 })
  t.is(text, 'alarm kl_high: the actor is 0.5100 nats per token away from the reference, more than 0.5. Try a larger --kl-coef, --kl-target, or a lower --actor-learning-rate.')
  t.deepEqual(alarms.active, ['kl_high'])
  t.deepEqual(see(alarms, [{ kl: 30 }, {}, {}, { kl: 30 }, {}, {}]), [], 'quiet for two is not over')
  t.deepEqual(see(alarms, [{}]), ['kl_high over.'])
  t.deepEqual(alarms.active, [])
  t.deepEqual(see(alarms, [{ kl: 20 }, { kl: 20.1 }]), ['kl_high'], 'exactly at the bound is no alarm')
})

const provoked: [name: string, before: Partial<ExperienceReading>[], last: Partial<ExperienceReading>, near: Partial<ExperienceReading>][] = [
  ['kl_negative', [], { kl: -1.1 }, { kl: -0.9 }],
  ['scores_clipped', [], { clipped: 0.5 }, { clipped: 0.49 }],
  ['answers_cut', times(2, { cut: 0.95 }), { cut: 0.9 }, { cut: 0.89 }],
  ['length_collapse', [{}, ...times(2, { lengthStd: 1.2 })], { lengthStd: 0 }, { lengthStd: 1.3 }],
]
for (const [name, before, last, near] of provoked)
  test(`${name} is said where it begins, and not right before`, (t) => {
    t.deepEqual(see(new Alarms(), [...before, near]), [])
    t.deepEqual(see(new Alarms(), [...before, last, last]), [name])
  })

test('kl_outgrows: scores rise and what is left after the penalty falls, both beyond noise', (t) => {
  const trend = (scores: number, rlhf: number, noise: number) => Array.from({ length: 8 }, (_, i) => ({ scores: scores * i + noise * (i % 2), rlhfReward: rlhf * i + noise * (i % 2) }))
  t.deepEqual(see(new Alarms(), trend(0.1, -0.1, 0)), ['kl_outgrows'])
  t.deepEqual(see(new Alarms(), trend(0.1, 0.05, 0)), [])
  t.deepEqual(see(new Alarms(), trend(-0.1, -0.1, 0)), [])
  t.deepEqual(see(new Alarms(), trend(0.1, -0.1, 3)), [], 'noise of 3 hides a trend of 0.1')
  t.deepEqual(see(new Alarms(), times(8, {})), [], 'no division by zero where nothing moves')
})

test('ratio and entropy_collapse', (t) => {
  const feed = (alarms: Alarms, list: [number, number][]): string[] => said(list.map(([ratio, entropy]) => alarms.seeUpdate({ ratio, entropy })))
  for (const [ratio, names] of [[1.26, ['ratio']], [0.79, ['ratio']], [1.2, []], [0.85, []], [NaN, []]] as const) t.deepEqual(feed(new Alarms(), [[1, 2], [ratio, 2]]), [...names], String(ratio))
  t.deepEqual(feed(new Alarms(), [[1, 2], [1, 0.19], [1, 0.1], [1, 0.21], [1, 0.1], [1, 0.1]]), [], 'three in a row')
  t.deepEqual(feed(new Alarms(), [[1, 2], [1, 0.19], [1, 0.1], [1, 0.19], [1, 0.1]]), ['entropy_collapse'])
  const alarms = new Alarms()
  t.deepEqual(feed(alarms, [[2, 1], ...times<[number, number]>(19, [1, 1])]), ['ratio'])
  t.deepEqual(feed(alarms, [[1, 1]]), ['ratio over.'])
})

test('heldout_falls: training up, held-out prompts down by more than two standard errors', (t) => {
  const run = (after: number, scores: number, standardError = 0.1): string[] => {
    const alarms = new Alarms()
    const first = said([alarms.seeHeldOut({ score: 1, standardError })])
    return [...first, ...see(alarms, [{ scores: 1 }, ...times(4, { scores })]), ...said([alarms.seeHeldOut({ score: after, standardError })])]
  }
  t.deepEqual(run(0.7, 2), ['heldout_falls'])
  t.deepEqual(run(0.73, 2), [], '0.27 is less than 2 sqrt(0.02)')
  t.deepEqual(run(0.7, 0.9), [], 'training fell too')
  t.deepEqual(run(1.5, 2), [])
  t.deepEqual(run(0.7, 2, 0.2), [])
})

test('what goes through JSON in between says the same', (t) => {
  const readings = Array.from({ length: 60 }, (_, i) => ({ ...healthy, kl: i % 7 < 3 ? 25 : 3, scores: i / 9, rlhfReward: -i / 9, lengthStd: i % 11 < 6 ? 12 : 0, cut: i % 13 < 5 ? 1 : 0 }))
  const whole = new Alarms()
  let pieces = new Alarms()
  for (const [i, reading] of readings.entries()) {
    const seen = (alarms: Alarms) => [alarms.seeExperience(reading), alarms.seeUpdate({ ratio: i % 5 ? 1 : 3, entropy: 1 / (i + 1) }), alarms.seeHeldOut({ score: -i, standardError: 1 }), alarms.active]
    t.deepEqual(seen(pieces), seen(whole), String(i))
    pieces = new Alarms(JSON.parse(JSON.stringify(pieces.state)) as AlarmState)
  }
})

test('end to end: a rate far too high, and a clip that all scores hit', async (t) => {
  const { folder, model, data } = await makeSetting(t)
  const critic = (await reward({ modelNameOrPath: model, dataPath: [data], maxSeqLen: 48, learningRate: 3e-3, numTrainEpochs: 4, perDeviceTrainBatchSize: 8, outputDir: join(folder, 'reward') })).model!
  const run = async (name: string, more: object): Promise<{ notes: string[]; alarms: string[] }> => {
    const shown: string[] = []
    const outputDir = join(folder, name)
    const options = { actorModelNameOrPath: model, criticModelNameOrPath: critic, dataPath: [data], maxPromptSeqLen: 20, maxAnswerSeqLen: 8, perDeviceGenerationBatchSize: 16, perDeviceTrainingBatchSize: 4, ppoEpochs: 2, numWarmupSteps: 0, lrSchedulerType: 'constant' as const, rewardClip: 0, outputDir, ...more }
    await ppo(options, { progress: new Progress({ write: (text: string) => void shown.push(text) }) })
    return { notes: said([shown.flatMap((l) => (l.startsWith('ppo: alarm ') ? l.slice(5).trim() : []))]), alarms: steps(await readLines(outputDir, 'metrics')).map((l) => String(l['alarms'])) }
  }
  const wild = await run('wild', { actorLearningRate: 0.03, numTrainEpochs: 3 })
  for (const name of ['ratio', 'kl_high']) {
    t.is(wild.notes.filter((n) => n === name).length - wild.notes.filter((n) => n === `${name} over.`).length, wild.alarms.at(-1)!.split(' ').includes(name) ? 1 : 0, `${name} is on as long as it is not over`)
    t.true(wild.alarms.some((a) => a.split(' ').includes(name)), name)
  }
  t.is(wild.alarms[0], 'null')
  const sharp = await run('sharp', { actorLearningRate: 5e-3, criticLearningRate: 1e-3, whitenAdvantages: true, klCoef: 0, numTrainEpochs: 15, maxAnswerSeqLen: 4, perDeviceTrainingBatchSize: 16 })
  t.true(sharp.notes.includes('entropy_collapse'), sharp.notes.join(' '))
  const clipped = await run('clipped', { actorLearningRate: 1e-5, rewardClip: 1e-6 })
  t.deepEqual(clipped.notes.filter((n) => n !== 'answers_cut'), ['scores_clipped'])
  const calm = await run('calm', { actorLearningRate: 1e-5 })
  t.deepEqual(calm.notes.filter((n) => n !== 'answers_cut'), [], 'an untrained actor ends no answer; nothing else is wrong')
})
