import test from 'ava'
import { Regex } from '../../../../lib/data/tokenizers/regex.js'
import { RegexRefused } from '../../../../lib/data/tokenizers/regexSets.js'
import { failsWith } from '../support.js'
import { fixture } from './support.js'

function pieces(regex: Regex, text: string): string[] {
  const found = { ends: new Int32Array(4) as Int32Array }
  const count = regex.findAll(text, found)
  const out: string[] = []
  let end = 0
  for (let i = 0; i < count; i += 2) {
    const [from, to] = [found.ends[i]!, found.ends[i + 1]!]
    if (from > end) out.push(text.slice(end, from))
    if (to > from) out.push(text.slice(from, to))
    end = to
  }
  if (end < text.length) out.push(text.slice(end))
  return out
}

test('cuts texts where the regex engine of the tokenizers library cuts them', (t) => {
  const cases = fixture<readonly { regex: string; texts: readonly string[]; pieces: readonly (readonly string[])[] }[]>('regexes')
  t.true(cases.length > 35)
  for (const { regex: source, texts, pieces: expected } of cases) {
    const regex = new Regex(source)
    for (const [i, text] of texts.entries()) t.deepEqual(pieces(regex, text), expected[i], `${source} on ${JSON.stringify(text)}`)
  }
})

test('what is not known is refused, not guessed', (t) => {
  const refused: readonly (readonly [string, string])[] = [
    [String.raw`(a)\1`, String.raw`"\1"`],
    ['[[:alpha:]]', 'a POSIX class'],
    [String.raw`\p{Greek_Extended}`, 'the property "Greek_Extended"'],
    [String.raw`\R`, String.raw`"\R"`],
    ['(?<=a+)b', 'a look-behind without a fixed length'],
    ['(?i:maSSe)', '"mass" without regard to case'],
    ['(?x)a', 'the group "(?x)"'],
    ['a{2}?', '"{n}?"'],
    ['*a', '"*" with nothing to repeat'],
    ['(a', 'a "(" without its ")"'],
    ['a)', 'a ")" without its "("'],
    ['[a', 'a "[" without its "]"'],
    ['[b-a]', 'a range that ends before it begins'],
    ['a{2000}', 'a count above 1000'],
    ['('.repeat(60) + ')'.repeat(60), 'groups nested more than 50 deep'],
    ['a\\', 'an end in the middle'],
    [String.raw`\xC3`, String.raw`"\xC3"`],
  ]
  for (const [source, words] of refused) {
    const error = t.throws(() => new Regex(source), { instanceOf: RegexRefused }, source)
    t.true(error.message.includes(words), `${error.message} names ${words}`)
  }
})

test('a pattern that would take for ever is stopped', async (t) => {
  const found = { ends: new Int32Array(4) as Int32Array }
  for (const source of ['(a+)+b', '(?:a|a)*b', '(a*)*c', 'a*a*a*a*a*b', '(?=(?:a|aa)+$)b', '(?:(?:a?){20}){20}b']) {
    const started = performance.now()
    await failsWith(t, () => new Regex(source).findAll('a'.repeat(20_000), found), '[tokenizer]', 'steps', JSON.stringify(source))
    t.true(performance.now() - started < 4000, source)
  }
  await failsWith(t, () => new Regex('(?:(?:(?:a{1,100}b){1,100}c){1,100}){1,100}'), 'a pattern of ordinary size')
})

test('a long text costs time in proportion: the patterns in use stay far below their limit', (t) => {
  const gpt2 = fixture<readonly { regex: string }[]>('regexes')[0]!.regex
  const found = { ends: new Int32Array(4) as Int32Array }
  for (const unit of ['a', ' ', '\n', ' a', "'", '1', '中', '👍', ' \n']) t.true(new Regex(gpt2).findAll(unit.repeat(200_000), found) > 0)
})
