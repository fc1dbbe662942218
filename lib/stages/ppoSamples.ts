// What PPO shows of its answers: rows of samples.jsonl with the numbers of each token, and answers on the terminal.
import { short } from '../base/progress.js'
import type { Run } from '../base/run.js'
import { escaped } from '../data/inspect.js'
import type { Tokenizer } from '../data/tokenizer.js'
import { rewardsOf } from '../engine/experience.js'
import type { Experience, ShapingOptions } from '../engine/experience.js'
import { klPenalty } from '../rlhf/kl.js'

export interface SampleOptions extends ShapingOptions {
  sampleRows: number
  printAnswers: boolean
  printAnswersInterval: number
}

/** Seven digits say what a float32 holds. */
const rounded = (numbers: ArrayLike<number>): number[] => Array.from(numbers, (x) => Number(x.toPrecision(7)))

/**
 * Writes the first `sampleRows` answers of an experience (--sample-rows) and, every --print-answers-interval experiences, prints
 * them. `number`: of the experience, from 0. `step`: optimizer steps before it.
 */
export function showSamples(run: Run, experience: readonly Experience[], at: { step: number; number: number }, tokenizer: Tokenizer | null, o: SampleOptions): void {
  const text = (ids: Iterable<number>, skipSpecial = true): string | null => tokenizer?.decode(ids, { skipSpecial }) ?? null
  const print = o.printAnswers && at.number % o.printAnswersInterval === 0
  for (const e of experience.slice(0, o.sampleRows)) {
    run.sample(at.step, {
      prompt: text(e.prompt),
      answer: text(e.answer),
      reward: e.score,
      kl: e.kl,
      finish: e.finish,
      output_ids: Array.from(e.answer),
      tokens: tokenizer && Array.from(e.answer, (id) => text([id], false)),
      logprobs: rounded(e.logprobs),
      kls: rounded(klPenalty(e.logprobs, e.refLogprobs, 'k1')),
      rewards: rounded(rewardsOf(e, o)),
      values: rounded(e.values),
      advantages: rounded(e.advantages),
      returns: rounded(e.returns),
    })
    // an answer must not steer the terminal
    const shown = (ids: Int32Array): string => (text(ids) ?? ids.join(' ')).replaceAll(/(?![\n\t])\p{Cc}/gu, escaped)
    if (print) run.progress.note(`--- step ${at.step}, score ${short(e.score)}, KL ${short(e.kl)}, ${e.answer.length} tokens (${e.finish})\n${shown(e.prompt)}\n>>> ${shown(e.answer)}`)
  }
}
