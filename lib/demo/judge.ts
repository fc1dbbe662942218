// The table at the end: share of right-and-polite answers on held-out prompts, judged by the exact checker.
import { pairedDifference, wilsonInterval } from '../base/statistics.js'
import { LoadedModel } from '../checkpoint/model.js'
import { generateAll, rowSeed } from '../rollout/generate.js'
import type { DType, NativeDevice } from '../tensor/device.js'
import type { Checker } from './checker.js'

export interface Gold {
  /** Share of answers that are right and polite. */
  share: number
  interval: [number, number]
  right: number
  polite: number
  samples: { prompt: string; answer: string; ok: boolean }[]
}

/** Answers drawn for each prompt: one alone moves a share by more than the control may gain. */
const answersEach = 4

/** One model's answers before the judge. */
export interface Judged {
  gold: Gold
  /** [prompts] share of the prompt's answers that are right and polite. */
  ok: Float64Array
}

/** How much larger the share is than another model's on the same prompts. */
export interface Gain {
  over: string
  mean: number
  standardError: number
}

export function gainOver(name: string, model: Judged, other: Judged): Gain {
  return { over: name, ...pairedDifference(model.ok, other.ok) }
}

export interface JudgeOptions {
  seed: number
  dtype: string
  /** Tokens an answer may have. */
  maxAnswer: number
}

/** Samples answers to each prompt at temperature 1 and judges them. */
export async function judge(device: NativeDevice, folder: string, prompts: readonly string[], check: Checker, { seed, dtype, maxAnswer }: JudgeOptions): Promise<Judged> {
  using model = await LoadedModel.load(device, folder, { dtype: dtype as DType, head: 'logprob' })
  const tokenizer = model.tokenizer!
  const asked = Array.from({ length: answersEach * prompts.length }, (_, i) => prompts[i % prompts.length]!)
  const rows = asked.map((p, i) => ({ ids: tokenizer.encodePrompt(p), seed: rowSeed(seed, i) }))
  const options = { temperature: 1, topK: 0, topP: 1, maxNewTokens: maxAnswer, eosIds: model.eosIds, maxBatch: 64, pageSize: 16 }
  const answers = await generateAll(model.decoder, rows, options)
  const verdicts = answers.map((a, i) => {
    const answer = tokenizer.decode(a.ids, { skipSpecial: true })
    return { prompt: asked[i]!, answer, ...check(asked[i]!, answer, a.finish === 'stop') }
  })
  const share = (of: (v: (typeof verdicts)[number]) => boolean): number => verdicts.filter(of).length / verdicts.length
  const ok = share((v) => v.ok)
  const gold = {
    share: ok,
    interval: wilsonInterval(verdicts.filter((v) => v.ok).length, verdicts.length),
    right: share((v) => v.right),
    polite: share((v) => v.polite),
    samples: verdicts.slice(0, 3).map(({ prompt, answer, ok: good }) => ({ prompt, answer, ok: good })),
  }
  const each = new Float64Array(prompts.length)
  for (const [i, v] of verdicts.entries()) each[i % prompts.length]! += Number(v.ok) / answersEach
  return { gold, ok: each }
}
