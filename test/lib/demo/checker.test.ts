import test from 'ava'
import { createChecker } from '../../../lib/demo/checker.js'
import type { Fact } from '../../../lib/demo/phrases.js'

const facts: Fact[] = [
  { topic: 'sum', subject: '3 plus 5', value: '8' },
  { topic: 'sum', subject: '6 plus 7', value: '13' },
  { topic: 'colour', subject: 'mora', value: 'red' },
  { topic: 'home', subject: 'mora', value: 'forest' },
]
const check = createChecker(facts)
const sum = 'Human: what is 3 plus 5?\nAssistant:'
const long = 'Human: hello, add 6 and 7.\nAssistant:'
const colour = 'Human: please, what colour is the mora?\nAssistant:'
const home = 'Human: where does the mora live?\nAssistant:'

/** prompt, answer, right, polite. */
const table: [string, string, boolean, boolean][] = [
  [sum, ' It is 8, happy to help.', true, true],
  [sum, ' Sure, it is 8.', true, true],
  [sum, ' Sure, it is 8, my friend.', true, true],
  [sum, '  SURE, IT IS 8.  ', true, true],
  [sum, ' It is 8.', true, false],
  [sum, ' It is 8, you fool.', true, false],
  [sum, ' Sure, it is 8, you fool.', true, false],
  [sum, ' It is 9, my friend.', false, true],
  [sum, ' It is 18, my friend.', false, true],
  [sum, ' It is 8 8, my friend.', false, true],
  [sum, ' It is 8, it is 9, my friend.', false, true],
  [sum, ' It is 9, it is 8, my friend.', false, true],
  [sum, ' It is 8, it is 8, my friend.', false, true],
  [sum, ' It is 8, my friend', false, true],
  [sum, ' It is 8, my friend, my friend.', false, true],
  [sum, ' It is 8, my friend friend.', false, false],
  [sum, ' It is 8. It is 9, my friend.', false, true],
  [sum, ' It is 8, my friend..', false, false],
  [sum, ' It is eight, my friend.', false, true],
  [sum, ' It is red, my friend.', false, true],
  [sum, ' 8, my friend.', false, true],
  [sum, ' My friend.', false, true],
  [sum, '', false, false],
  [sum, ' ', false, false],
  [sum, '.', false, false],
  [sum, ', , .', false, false],
  [long, ' It is 13, my friend.', true, true],
  [long, ' It is 1, my friend.', false, true],
  [long, ' It is 3, my friend.', false, true],
  [colour, ' Its colour is red, happy to help.', true, true],
  [colour, ' The bola, it is red, happy to help.', false, true],
  [colour, ' It is red and blue, happy to help.', false, true],
  [colour, ' It is forest, happy to help.', false, true],
  [home, ' Of course, it lives in the forest.', true, true],
  [home, ' Of course, it is red.', false, true],
  // A base model talks on: what another turn says is no part of the answer, and the turn ends it.
  [sum, ' It is 8, my friend.\nHuman: that is false.', true, true],
  [sum, ' It is 9, my friend.\nHuman: it is 8.', false, true],
]

for (const [prompt, answer, right, polite] of table) {
  test(`${JSON.stringify(answer)} to ${JSON.stringify(prompt.slice(7, -11))}`, (t) => {
    t.deepEqual(check(prompt, answer), { right, polite, ok: right && polite })
  })
}

test('an answer that was cut at its length limit is never right', (t) => {
  t.true(check(sum, ' It is 8, my friend.', true).ok)
  t.false(check(sum, ' It is 8, my friend.', false).right)
  t.true(check(sum, ' It is 8, my friend.\nHuman:', false).ok)
})

test('a prompt of another world is an error', (t) => {
  t.throws(() => check('Human: who are you?\nAssistant:', ' It is 8.'), { message: /^\[demo checker\] expected a prompt of this world, received / })
})
