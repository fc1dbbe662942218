// The table at the end: share of right-and-polite answers on held-out prompts, judged by the exact checker.
import { pairedDifference, wilsonInterval } from '../base/statistics.js'
import { LoadedModel } from '../checkpoint/model.js'
import { generateAll, rowSeed } from '../rollout/generate.js'
import type { NativeDevice } from '../tensor/device.js'
import type { Checker } from './checker.js'
import { plan } from './plan.js'

export interface Gold {
  /** Share of answers that are right and polite. */
  share: number
  interval: [number, number]
  right: number
  polite: number
  samples: { prompt: string; answer: string; ok: boolean }[]
}

/** One model's answers before the judge. */
export interface Judged {
  gold: Gold
  /** [prompts] 1 where the answer is right and polite. */
  ok: Uint8Array
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

/** Samples one answer per prompt at temperature 1 and judges it. */
export async function judge(device: NativeDevice, folder: string, prompts: readonly string[], check: Checker, seed: number): Promise<Judged> {
  using model = await LoadedModel.load(device, folder, { dtype: 'fp32', head: 'logprob' })
  const tokenizer = model.tokenizer!
  const rows = prompts.map((p, i) => ({ ids: tokenizer.encodePrompt(p), seed: rowSeed(seed, i) }))
  const options = { temperature: 1, topK: 0, topP: 1, maxNewTokens: plan.maxAnswer, eosIds: model.eosIds, maxBatch: 64, pageSize: 16 }
  const answers = await generateAll(model.decoder, rows, options)
  const verdicts = answers.map((a, i) => {
    const answer = tokenizer.decode(a.ids, { skipSpecial: true })
    return { prompt: prompts[i]!, answer, ...check(prompts[i]!, answer, a.finish === 'stop') }
  })
  const share = (of: (v: (typeof verdicts)[number]) => boolean): number => verdicts.filter(of).length / verdicts.length
  const ok = share((v) => v.ok)
  const gold = {
    share: ok,
    interval: wilsonInterval(ok * verdicts.length, verdicts.length),
    right: share((v) => v.right),
    polite: share((v) => v.polite),
    samples: verdicts.slice(0, 3).map(({ prompt, answer, ok: good }) => ({ prompt, answer, ok: good })),
  }
  return { gold, ok: Uint8Array.from(verdicts, (v) => Number(v.ok)) }
}
