// Stop texts are found across token borders, in the row they belong to, and cut off.
import test from 'ava'

import { StopTexts, cutAtStop } from '../../../lib/rollout/stopText.js'
import { tinyTokenizer } from '../data/support.js'

const tokenizer = tinyTokenizer()
const idsOf = (text: string): Int32Array => tokenizer.encode(text, { special: false })

/** How many tokens of `text` are drawn until a stop text is complete; 0 = never. */
function tokensUntil(text: string, stops: readonly string[]): number {
  const watch = new StopTexts(tokenizer, stops)
  return idsOf(text).findIndex((id) => watch.push(0, id)) + 1
}

test('a stop text is found as soon as it is complete, also over several tokens', (t) => {
  t.is(tokensUntil('yes\nno', ['\n']), 4)
  t.is(tokensUntil('a\n\nHuman: b', ['\n\nHuman:']), 9)
  t.is(tokensUntil('hello world', ['llo']), 1, 'inside a token')
  t.is(tokensUntil('hello world', ['o w']), 3)
  t.is(tokensUntil('abcabd', ['x', 'abd']), 6)
  t.is(tokensUntil('aab', ['ab']), 3, 'after a false start')
  t.is(tokensUntil('a b', ['bb', 'c']), 0)
  t.is(tokensUntil('größe', ['ß']), 6, 'a character of two bytes')
})

test('rows are watched apart', (t) => {
  const watch = new StopTexts(tokenizer, ['ab'])
  const [a, b] = [idsOf('a')[0]!, idsOf('b')[0]!]
  t.false(watch.push(0, a))
  t.false(watch.push(1, b))
  t.false(watch.push(1, a))
  t.true(watch.push(0, b))
  t.true(watch.push(1, b))
})

test('the text is cut at the first stop text', (t) => {
  t.is(cutAtStop('one. two; three', [';', '.']), 'one')
  t.is(cutAtStop('one', ['.']), 'one')
  t.is(cutAtStop('.one', ['.']), '')
  t.is(cutAtStop('one', []), 'one')
})
