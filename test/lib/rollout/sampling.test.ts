// What is drawn from after edits and cuts, against transformers' logits processors.
import { readFileSync } from 'node:fs'

import test from 'ava'

import { native } from '../../../lib/binding/native.js'
import { Edits, checkSampling } from '../../../lib/rollout/sampling.js'
import type { SamplingOptions } from '../../../lib/rollout/sampling.js'
import { createDevice, fromFloats } from '../device.js'
import { failsWith } from '../data/support.js'

interface Case {
  options: Omit<Partial<SamplingOptions>, 'logitBias'> & { logitBias?: Record<string, number> }
  logits: number[]
  seen: number[]
  probabilities: number[]
}
const { cases } = JSON.parse(readFileSync('test/fixtures/formulas/warpers.json', 'utf8')) as { cases: Case[] }
const draws = 4000

const optionsOf = ({ options }: Case): SamplingOptions => ({
  temperature: 1,
  topK: 0,
  topP: 1,
  ...options,
  logitBias: new Map(Object.entries(options.logitBias ?? {}).map(([id, bias]) => [Number(id), bias])),
})

/** How often each token is drawn at `draws` positions of one row. */
async function frequencies({ logits, seen }: Case, options: SamplingOptions): Promise<number[]> {
  using device = createDevice({ threads: 2 })
  const v = logits.length
  const edits = [...(Edits.of(Int32Array.from(seen), options) ?? [])]
  const all = fromFloats(device, Float32Array.from({ length: draws * v }, (_, i) => logits[i % v]!), [draws, v])
  const every = <T>(of: () => T[]): T[] => Array.from({ length: draws }, of).flat()
  const out = native().sample(device, {
    logits: all,
    invTemperature: new Float32Array(draws).fill(1 / options.temperature),
    topK: new Int32Array(draws).fill(options.topK),
    topP: new Float32Array(draws).fill(options.topP),
    minP: new Float32Array(draws).fill(options.minP ?? 0),
    ...(edits.length > 0 && {
      editStarts: Int32Array.from({ length: draws + 1 }, (_, i) => i * edits.length),
      editIds: Int32Array.from(every(() => edits.map(([id]) => id))),
      edits: Float32Array.from(every(() => edits.flatMap(([, numbers]) => numbers))),
    }),
    seeds: new Int32Array(2 * draws).fill(3),
    positions: Int32Array.from({ length: draws }, (_, i) => i),
  })
  const tokens = await out.tokens.read()
  for (const t of [all, out.tokens, out.logprobs]) t.dispose()
  const counts = new Array<number>(v).fill(0)
  for (const token of tokens) counts[token]!++
  return counts.map((c) => c / draws)
}

/** Every token within five standard errors of its probability, and never drawn where that is 0. */
const agree = (got: number[], want: number[]): boolean => got.every((f, i) => (want[i] === 0 ? f === 0 : Math.abs(f - want[i]!) <= 5 * Math.sqrt((want[i]! * (1 - want[i]!)) / draws) + 1e-6))

for (const [i, c] of cases.entries())
  test(`transformers' distribution after ${JSON.stringify(c.options)} (${i})`, async (t) => {
    const got = await frequencies(c, optionsOf(c))
    t.true(agree(got, c.probabilities), `${got.join(' ')} against ${c.probabilities.join(' ')}`)
    if (i > 0) t.false(agree(got, cases[0]!.probabilities), 'another distribution is seen')
  })

test('edits follow the answer: presence from its tokens only, repetition from the prompt too', (t) => {
  const edits = Edits.of(Int32Array.of(4, 5), { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1.5, presencePenalty: 0.5, logitBias: new Map([[9, -1]]) })!
  t.deepEqual([...edits], [[9, [-1, 1, 0]], [4, [0, 1.5, 0]], [5, [0, 1.5, 0]]])
  edits.drew(5)
  edits.drew(7)
  t.deepEqual([...edits], [[9, [-1, 1, 0]], [4, [0, 1.5, 0]], [5, [0, 1.5, 0.5]], [7, [0, 1.5, 0.5]]])
  t.is(Edits.of(Int32Array.of(4), { temperature: 1, topK: 0, topP: 1 }), null)
})

test('numbers that make no sense are refused by name', async (t) => {
  const check = (more: Partial<SamplingOptions>) => () => checkSampling({ temperature: 1, topK: 0, topP: 1, ...more }, 11)
  await failsWith(t, check({ minP: 1.5 }), 'a min-p from 0 to 1', '1.5')
  await failsWith(t, check({ repetitionPenalty: 0 }), 'a repetition penalty above 0', '0')
  await failsWith(t, check({ presencePenalty: Number.NaN }), 'a presence penalty', 'NaN')
  await failsWith(t, check({ logitBias: new Map([[11, 1]]) }), 'from 0 to 10', '11')
  await failsWith(t, check({ logitBias: new Map([[3, Infinity]]) }), 'token 3', 'Infinity')
  t.notThrows(check({ minP: 0.1, repetitionPenalty: 1.2, presencePenalty: -1, logitBias: new Map([[0, -Infinity]]) }))
})
