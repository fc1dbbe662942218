// Files made to break a reader: one error that names the file, in seconds, whatever is in them.
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { ThreefoldError } from '../../../../lib/base/errors.js'
import { RandomSequence } from '../../../../lib/base/random.js'
import { Tokenizer } from '../../../../lib/data/tokenizer.js'
import { target as chatTemplate } from '../../../fuzz/chatTemplate.js'
import { target as sentencePiece } from '../../../fuzz/sentencePiece.js'
import type { FuzzTarget } from '../../../fuzz/target.js'
import { target as tokenizerJson } from '../../../fuzz/tokenizerJson.js'
import { failsWith, temporaryFolder, tokenizerJson as tinyJson } from '../support.js'

/** Cuts, flips, repeats and swaps, a few at a time. */
function mutated(bytes: Uint8Array, random: RandomSequence): Uint8Array {
  let out = Buffer.from(bytes)
  for (let i = 0; i <= random.below(4); i++) {
    const [at, length] = [random.below(out.length + 1), random.below(60)]
    switch (random.below(5)) {
      case 0:
        out = Buffer.from(out.subarray(0, at))
        break
      case 1:
        if (at < out.length) out[at] = random.below(256)
        break
      case 2:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + length)])
        break
      case 3:
        out = Buffer.concat([out.subarray(0, at + length), out.subarray(at)])
        break
      default:
        out.copy(out, random.below(out.length + 1), at, at + length)
    }
  }
  return out
}

for (const target of [tokenizerJson, sentencePiece, chatTemplate] as readonly FuzzTarget[]) {
  test.serial(`${target.name}: files as they are load, changed ones load or are one error that names the file`, async (t) => {
    const folder = await temporaryFolder(t)
    const random = new RandomSequence(7, 1)
    let refused = 0
    for (const [index, seed] of (await target.seeds()).entries()) {
      const [[name, bytes], ...beside] = [...seed] as [[string, Uint8Array], ...[string, Uint8Array][]]
      const place = path.join(folder, String(index))
      await mkdir(place)
      for (const [file, content] of beside) await writeFile(path.join(place, file), content)
      const file = path.join(place, name)
      await writeFile(file, bytes)
      await t.notThrowsAsync(target.read(file), `seed ${index}`)
      for (let i = 0; i < 40; i++) {
        await writeFile(file, mutated(bytes, random))
        const started = performance.now()
        const error = await target.read(file).then(
          () => null,
          (caught: unknown) => caught,
        )
        t.true(performance.now() - started < 5000)
        if (error === null) continue
        refused++
        if (!(error instanceof ThreefoldError) || !error.message.includes(file)) t.fail(`seed ${index} mutation ${i}: ${String(error)}`)
      }
    }
    t.true(refused > 50, `${refused}`)
  })
}

test.serial('parts nested, growing or listed without end', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'tokenizer.json')
  const nested = (depth: number, inside: string): string => '{"type":"Sequence","normalizers":['.repeat(depth) + inside + ']}'.repeat(depth)
  const json = (fields: Readonly<Record<string, string>>): string => {
    const rest = JSON.stringify({ ...tinyJson(), ...Object.fromEntries(Object.keys(fields).map((key) => [key, undefined])) })
    return `${rest.slice(0, -1)},${Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`
  }
  const load = async (text: string): Promise<Tokenizer> => {
    await writeFile(file, text)
    return Tokenizer.load(folder)
  }
  await failsWith(t, () => load(json({ normalizer: nested(5000, '{"type":"NFC"}') })), file, 'nested at most 64 deep')
  await failsWith(t, () => load(json({ pre_tokenizer: `{"type":"Split","pattern":{"Regex":"[${'ab'.repeat(20_000)}]"},"behavior":"Isolated"}` })), file, 'a regular expression', 'more than 20000')
  t.is((await load(json({ pre_tokenizer: `{"type":"Split","pattern":{"Regex":"[${'az09'.repeat(4000)}]"},"behavior":"Isolated"}` }))).encode('ab', { special: false }).length, 2)
  await failsWith(t, () => load('{"model":{"type":"Unigram","vocab":[["' + 'a'.repeat(2000) + '",0]]}}'), file, 'at most 1000 characters')

  const novel = JSON.stringify('x'.repeat(100_000))
  const growing = await load(json({ normalizer: `{"type":"Replace","pattern":{"Regex":""},"content":${novel}}` }))
  await failsWith(t, () => growing.encode('a'.repeat(10_000), { special: false }), '[tokenizer]', 'at most 16 characters for each of 10000')
  const doubling = `{"type":"Sequence","normalizers":[${Array.from({ length: 40 }, () => '{"type":"Replace","pattern":{"String":"a"},"content":"aa"}').join(',')}]}`
  await failsWith(t, async () => (await load(json({ normalizer: doubling }))).encode('a', { special: false }), '[tokenizer]', 'at most 16 characters for each of')
  const wordy = await load(json({ decoder: `{"type":"Replace","pattern":{"Regex":""},"content":${novel}}` }))
  const ids = Array.from({ length: 3000 }, () => 259)
  await failsWith(t, () => wordy.decode(ids, { skipSpecial: false }), '[tokenizer]', 'a decoded text of at most')
})
