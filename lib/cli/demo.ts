// demo: the three steps on a built-in task, then the judge's table.
import { short } from '../base/progress.js'
import type { Gain } from '../demo/judge.js'
import { demoOptions } from '../demo/options.js'
import type { DemoResult } from '../demo/run.js'
import type { CommandSpec } from './command.js'
import { asGiven } from './command.js'
import { duration, percent, table } from './table.js'

export const demo: CommandSpec = {
  name: 'demo',
  summary: 'the three steps on a built-in task: no download, minutes on two cores',
  options: demoOptions,
  async run(given, { hooks }) {
    const result = await (await import('../demo/run.js')).runDemo(asGiven(given), hooks)
    return { json: result, text: demoText(result) }
  },
}

function demoText({ details, gains, kl, rewardAccuracy, times, seconds, folder }: DemoResult): string {
  const models = Object.entries(details)
  const shares = models.map(([name, g]) => [name, percent(g.share), `${percent(g.interval[0])} to ${percent(g.interval[1])}`, percent(g.right), percent(g.polite), gainText(gains[name])])
  const samples = models.flatMap(([name, g]) => [name, ...g.samples.map((s) => `  ${s.ok ? 'good' : 'bad '}  ${oneLine(s.prompt)} -> ${oneLine(s.answer)}`)])
  return [
    'answers to held-out prompts, judged by an exact checker',
    table([['model', 'right and polite', '95 % interval', 'right', 'polite', 'gain ± standard error'], ...shares]),
    '',
    `KL of PPO from SFT: ${kl === null ? '-' : short(kl)} per answer; reward model's accuracy on held-out pairs: ${rewardAccuracy === null ? '-' : percent(rewardAccuracy)}`,
    '',
    ...samples,
    '',
    table(Object.entries(times).map(([step, s]) => [step, duration(s)])),
    `total ${duration(seconds)}; models, metrics and samples in ${folder}`,
  ].join('\n')
}

const gainText = (gain: Gain | undefined): string => (gain ? `${gain.mean < 0 ? '' : '+'}${(100 * gain.mean).toFixed(1)} ± ${(100 * gain.standardError).toFixed(1)} over ${gain.over}` : '')

const oneLine = (text: string): string => text.trim().replaceAll('\n', '\\n')
