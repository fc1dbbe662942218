import test from 'ava'
import { createChecker } from '../../../lib/demo/checker.js'
import { fill, greetings, promptOf, questions, statements } from '../../../lib/demo/phrases.js'
import { makeWorld } from '../../../lib/demo/world.js'

const sizes = { pretrainTexts: 3000, preferenceRows: 1500, testPrompts: 400 }
const seeds = [1, 2, 3]

/** The prompt that a text contains, up to and with "Assistant:"; null for a statement. */
function promptIn(text: string): string | null {
  const end = text.indexOf('Assistant:')
  return end < 0 ? null : text.slice(0, end + 'Assistant:'.length)
}

test('a seed gives one world, another seed another', (t) => {
  t.deepEqual(makeWorld(5, sizes), makeWorld(5, sizes))
  t.notDeepEqual(makeWorld(5, sizes).pretrainTexts, makeWorld(6, sizes).pretrainTexts)
  t.notDeepEqual(makeWorld(5, sizes).facts, makeWorld(6, sizes).facts)
})

test('sizes are kept, and too many test prompts are refused', (t) => {
  const world = makeWorld(1, sizes)
  t.is(world.pretrainTexts.length, 3000)
  t.is(world.preferenceRows.length, 1500)
  t.is(new Set(world.testPrompts).size, 400)
  t.throws(() => makeWorld(1, { ...sizes, testPrompts: 100_000 }), { message: /^\[demo world\] expected at most \d+ test prompts, received 100000\. Try / })
})

for (const seed of seeds) {
  test(`seed ${seed}: no (fact, wording) of the test occurs in training, under any greeting`, (t) => {
    const world = makeWorld(seed, sizes)
    const keyOf = new Map<string, string>()
    for (const fact of world.facts) {
      for (const [wording, question] of questions[fact.topic].entries()) {
        for (const greeting of greetings) keyOf.set(promptOf(greeting, fill(question, fact)), `${fact.topic}/${fact.subject}/${wording}`)
      }
    }
    // Two facts never share a prompt; otherwise a key would not say what was asked.
    t.is(keyOf.size, world.facts.length * questions.sum.length * greetings.length)
    const trainPrompts = [...world.preferenceRows.map((row) => row.prompt), ...world.pretrainTexts.map(promptIn).filter((prompt) => prompt !== null)]
    t.true(trainPrompts.every((prompt) => keyOf.has(prompt)))
    t.true(world.testPrompts.every((prompt) => keyOf.has(prompt)))
    const trainKeys = new Set(trainPrompts.map((prompt) => keyOf.get(prompt)))
    t.deepEqual(world.testPrompts.filter((prompt) => trainKeys.has(keyOf.get(prompt))), [])
  })

  test(`seed ${seed}: every chosen answer passes the checker, every rejected one fails, of all kinds`, (t) => {
    const world = makeWorld(seed, sizes)
    const check = createChecker(world.facts)
    const kinds = new Map<string, number>()
    for (const { prompt, chosen, rejected } of world.preferenceRows) {
      t.true(check(prompt, chosen).ok, prompt + chosen)
      const verdict = check(prompt, rejected)
      t.false(verdict.ok, prompt + rejected)
      const kind = `${verdict.right ? 'right' : 'wrong'}-${verdict.polite ? 'polite' : 'impolite'}`
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    }
    t.deepEqual([...kinds.keys()].sort(), ['right-impolite', 'wrong-impolite', 'wrong-polite'])
    t.true([...kinds.values()].every((count) => count > 0.05 * world.preferenceRows.length), JSON.stringify([...kinds]))
  })
}

test('the fact behind every test prompt is stated in the pretraining texts', (t) => {
  const world = makeWorld(1)
  const stated = new Set(world.pretrainTexts.map((text) => text.toLowerCase()))
  const factOf = new Map(world.facts.flatMap((fact) => questions[fact.topic].flatMap((question) => greetings.map((greeting) => [promptOf(greeting, fill(question, fact)), fact] as const))))
  for (const prompt of world.testPrompts) {
    const fact = factOf.get(prompt)!
    t.true(statements[fact.topic].some((statement) => stated.has(`${fill(statement, fact)}.`)), prompt)
  }
})

test('the corpus has right and wrong, polite and impolite answers', (t) => {
  const world = makeWorld(1)
  const check = createChecker(world.facts)
  const verdicts = world.pretrainTexts.flatMap((text) => {
    const prompt = promptIn(text)
    return prompt === null ? [] : [check(prompt, text.slice(prompt.length))]
  })
  const share = (of: (verdict: (typeof verdicts)[number]) => boolean): number => verdicts.filter(of).length / verdicts.length
  for (const value of [share((v) => v.right), share((v) => v.polite), share((v) => !v.right), share((v) => !v.polite)]) t.true(value > 0.25 && value < 0.75, String(value))
  t.true(share((v) => v.ok) < 0.5)
})
