// Experience as flat arrays, so that a checkpoint can hold what a run has gathered and not yet learnt from.
import { storedArray, takenArray } from '../checkpoint/snapshot.js'
import type { Stored } from '../checkpoint/snapshot.js'
import type { TensorSource } from '../checkpoint/safetensorsWriter.js'
import type { Experience } from './experience.js'

const finishes = ['stop', 'length'] as const
/** Numbers of one answer token each. */
const perToken = { logprobs: Float32Array, refLogprobs: Float32Array, values: Float32Array, advantages: Float64Array, returns: Float64Array } as const
type PerToken = keyof typeof perToken

export function experienceTensors(all: readonly Experience[]): TensorSource[] {
  const joined = (of: (e: Experience) => Int32Array): Int32Array => Int32Array.from(all.flatMap((e) => Array.from(of(e))))
  return [
    takenArray('promptLengths', Int32Array.from(all, (e) => e.prompt.length)),
    takenArray('answerLengths', Int32Array.from(all, (e) => e.answer.length)),
    takenArray('prompts', joined((e) => e.prompt)),
    takenArray('answers', joined((e) => e.answer)),
    takenArray('finishes', Int32Array.from(all, (e) => finishes.indexOf(e.finish))),
    takenArray('scores', Float64Array.from(all, (e) => e.score)),
    takenArray('spreads', Float64Array.from(all, (e) => e.spread)),
    takenArray('kls', Float64Array.from(all, (e) => e.kl)),
    takenArray('counted', Int32Array.from(all.flatMap((e) => Array.from(e.counted ?? e.answer.map(() => 1))))),
    ...Object.entries(perToken).map(([name, make]) => takenArray(name, make.from(all.flatMap((e) => Array.from(e[name as PerToken]))))),
  ]
}

export async function storedExperience(stored: Stored): Promise<Experience[]> {
  const ints = (name: string): Promise<Int32Array> => storedArray(stored, name, Int32Array)
  const [promptLengths, answerLengths, prompts, answers, finish, counted] = await Promise.all(['promptLengths', 'answerLengths', 'prompts', 'answers', 'finishes', 'counted'].map(ints))
  const [scores, spreads, kls] = await Promise.all(['scores', 'spreads', 'kls'].map((name) => storedArray(stored, name, Float64Array)))
  const tokens = Object.fromEntries(await Promise.all(Object.entries(perToken).map(async ([name, make]) => [name, await storedArray<Float32Array | Float64Array>(stored, name, make)] as const)))
  let [p, a] = [0, 0]
  return Array.from(promptLengths!, (promptLength, i) => {
    const from = a
    const prompt = prompts!.slice(p, (p += promptLength))
    a += answerLengths![i]!
    const cut = (name: PerToken): Float32Array & Float64Array => tokens[name]!.slice(from, a) as Float32Array & Float64Array
    return {
      prompt,
      answer: answers!.slice(from, a),
      finish: finishes[finish![i]!]!,
      score: scores![i]!,
      spread: spreads![i]!,
      kl: kls![i]!,
      logprobs: cut('logprobs'),
      refLogprobs: cut('refLogprobs'),
      values: cut('values'),
      advantages: cut('advantages'),
      returns: cut('returns'),
      counted: Uint8Array.from(counted!.subarray(from, a)),
    }
  })
}
