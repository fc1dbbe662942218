/**
 * Compares our tokenizer with the ids `tokenizer_cases.py compare` wrote:
 *   npx tsx test/oracle/compareTokenizer.ts FILE
 * Prints how many of the texts have the same ids, with and without special tokens, and the same text decoded, both at
 * once and id by id; ends with status 1 where one differs.
 */
import { readFileSync } from 'node:fs'
import { Tokenizer } from '../../lib/data/tokenizer.js'
import { TokenStream } from '../../lib/data/tokenStream.js'

interface Expected {
  readonly folder: string
  readonly texts: readonly string[]
  readonly plain: readonly (readonly number[])[]
  readonly special: readonly (readonly number[])[]
  readonly decoded: readonly string[]
}

async function main(file: string): Promise<void> {
  const expected = JSON.parse(readFileSync(file, 'utf8')) as Expected
  const tokenizer = await Tokenizer.load(expected.folder)
  const same = { plain: 0, special: 0, decoded: 0, streamed: 0 }
  let shown = 0
  const check = (kind: keyof typeof same, text: string, ours: () => unknown, theirs: unknown): void => {
    let got: unknown
    try {
      got = ours()
    } catch (error) {
      got = String(error)
    }
    if (JSON.stringify(got) === JSON.stringify(theirs)) same[kind]++
    else if (shown++ < 5) console.log(`${kind} ${JSON.stringify(text)}\n  ours   ${JSON.stringify(got)}\n  theirs ${JSON.stringify(theirs)}`)
  }
  for (const [i, text] of expected.texts.entries()) {
    const ids = expected.plain[i]!
    check('plain', text, () => [...tokenizer.encode(text, { special: false })], ids)
    check('special', text, () => [...tokenizer.encode(text, { special: true })], expected.special[i])
    check('decoded', text, () => tokenizer.decode(ids, { skipSpecial: false }), expected.decoded[i])
    check('streamed', text, () => streamed(tokenizer, ids), expected.decoded[i])
  }
  const { length } = expected.texts
  console.log(Object.entries(same).map(([kind, count]) => `${kind} ${count} of ${length}`).join(', '))
  if (Object.values(same).some((count) => count < length)) process.exitCode = 1
}

function streamed(tokenizer: Tokenizer, ids: readonly number[]): string {
  const stream = new TokenStream(tokenizer, { skipSpecial: false })
  return ids.map((id) => stream.push(id)).join('') + stream.end()
}

const file = process.argv[2]
if (file === undefined) throw new Error('[compare] expected a file of tokenizer_cases.py compare, received none. Try npx tsx test/oracle/compareTokenizer.ts FILE.')
await main(file)
