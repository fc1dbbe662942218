/**
 * The demo's world: a small set of facts and sums, a corpus that talks about them, preference rows and test prompts.
 *
 *   facts -> questions, each (fact, wording) either for training or for the test
 *         -> pretrainTexts: true statements, and conversations as people have them: many answers wrong, rude or curt
 *         -> preferenceRows: chosen right and polite; rejected wrong, rude or curt, or both
 *
 * Everything is a function of the seed.
 */
import { fail } from '../base/errors.js'
import { RandomSequence, randomPurpose, seededShuffle, streamNumber } from '../base/random.js'
import type { Fact, Manners, Topic } from './phrases.js'
import { approval, correction, cores, creatures, fill, greetings, operands, polite, promptOf, provocations, questions, rude, statements, values } from './phrases.js'

export interface PreferenceRow {
  readonly prompt: string
  readonly chosen: string
  readonly rejected: string
}

export interface WorldSizes {
  readonly pretrainTexts: number
  readonly preferenceRows: number
  readonly testPrompts: number
}

/** 910 test prompts are all there are: the more are judged, the smaller a difference the table can show. */
export const defaultSizes: WorldSizes = { pretrainTexts: 40_000, preferenceRows: 12_000, testPrompts: 910 }

export interface World {
  readonly facts: readonly Fact[]
  /** One statement or conversation each, for `{text}` rows. */
  readonly pretrainTexts: readonly string[]
  readonly preferenceRows: readonly PreferenceRow[]
  /** Distinct; no (fact, wording) of theirs occurs in pretrainTexts or preferenceRows. */
  readonly testPrompts: readonly string[]
}

/** How an answer is meant. Only 'right' with 'polite' is good. */
type Manner = 'polite' | 'rude' | 'curt'

/** Of the pretraining texts, the shares of plain true statements and of statements with a verdict; the rest are conversations. */
const statementShare = 0.45
const quizShare = 0.05
/** Of the conversations, the share whose answer is true: people are often wrong. */
const rightShare = 0.3
/** Manners of the corpus: after an ordinary question, and after a provoking one. */
const ordinaryManners = { polite: 0.5, rude: 0.2 }
const provokedManners = { polite: 0.2, rude: 0.6 }
/** Of the conversations, the share where the asker reacts, so that the corpus shows what right and wrong look like. */
const reactionShare = 0.6
/** Of all texts and rows, the share about sums: they are harder to learn than the other facts. */
const sumShare = 0.45
/** Of each fact's wordings, how many are kept for the test. */
const testWordings = 2
/** Kinds of a rejected answer: wrong but polite, right but not polite; the rest are both wrong and impolite. */
const wrongPoliteShare = 0.7
const rightImpoliteShare = 0.2

/** Of the wrong but polite ones, the share that uses the chosen answer's words. */
const sameWordsShare = 1

/** Stream indices of randomPurpose.generatedData, one for each thing that is drawn. */
const streams = { facts: 0, wordings: 1, pretrain: 2, preference: 3, test: 4 }

/** Makes the whole world. Sizes are counts of rows; testPrompts may not exceed what the test wordings give. */
export function makeWorld(seed: number, sizes: Partial<WorldSizes> = {}): World {
  const { pretrainTexts, preferenceRows, testPrompts } = { ...defaultSizes, ...sizes }
  const facts = makeFacts(seed)
  const { train, test } = splitWordings(seed, facts.length)
  const forPretraining = new Author(seed, streams.pretrain)
  const forPreference = new Author(seed, streams.preference)
  return {
    facts,
    pretrainTexts: Array.from({ length: pretrainTexts }, () => forPretraining.text(facts, train)),
    preferenceRows: Array.from({ length: preferenceRows }, () => forPreference.row(facts, train)),
    testPrompts: drawTestPrompts(seed, facts, test, testPrompts),
  }
}

/** All facts: every ordered pair of operands, and three properties of each creature, drawn so that no value is rare. */
function makeFacts(seed: number): Fact[] {
  const facts: Fact[] = []
  for (const a of operands) {
    for (const b of operands) facts.push({ topic: 'sum', subject: `${a} plus ${b}`, value: String(a + b) })
  }
  const topics = ['colour', 'food', 'home'] as const
  for (const [index, topic] of topics.entries()) {
    const order = seededShuffle(creatures.length, seed, streamNumber(randomPurpose.generatedData, streams.facts * 8 + index))
    for (const [position, subject] of creatures.entries()) {
      facts.push({ topic, subject, value: values[topic][order[position]! % values[topic].length]! })
    }
  }
  return facts
}

/** For each fact, which of its wordings are for training and which for the test. */
function splitWordings(seed: number, count: number): { train: number[][]; test: number[][] } {
  const train: number[][] = []
  const test: number[][] = []
  for (let fact = 0; fact < count; fact++) {
    const order = Array.from(seededShuffle(questions.sum.length, seed, streamNumber(randomPurpose.generatedData, 1000 + fact)))
    test.push(order.slice(0, testWordings))
    train.push(order.slice(testWordings))
  }
  return { train, test }
}

function drawTestPrompts(seed: number, facts: readonly Fact[], wordings: readonly (readonly number[])[], count: number): string[] {
  const all = facts.flatMap((fact, index) =>
    wordings[index]!.flatMap((wording) => greetings.map((greeting) => promptOf(greeting, fill(questions[fact.topic][wording]!, fact)))),
  )
  if (count > all.length) fail('demo world', `at most ${all.length} test prompts`, String(count), 'fewer test prompts')
  const order = seededShuffle(all.length, seed, streamNumber(randomPurpose.generatedData, streams.test))
  return Array.from(order.subarray(0, count), (index) => all[index]!)
}

/** Writes sentences from one stream of random numbers. */
class Author {
  readonly #random: RandomSequence

  constructor(seed: number, stream: number) {
    this.#random = new RandomSequence(seed, streamNumber(randomPurpose.generatedData, stream))
  }

  /** A pretraining text: a statement, or a conversation in one of the fact's training wordings. */
  text(facts: readonly Fact[], train: readonly (readonly number[])[]): string {
    const index = this.#factIndex(facts)
    const fact = facts[index]!
    const kind = this.#random.uniform()
    if (kind < statementShare) return sentence(this.#statement(fact, fact.value))
    if (kind < statementShare + quizShare) {
      const isTrue = this.#random.uniform() < 0.5
      return `${sentence(this.#statement(fact, isTrue ? fact.value : this.#wrongValue(fact)))} ${sentence(isTrue ? approval : correction)}`
    }
    const greeting = this.#pick(greetings)
    const manners = provocations.has(greeting) ? provokedManners : ordinaryManners
    const draw = this.#random.uniform()
    const manner: Manner = draw < manners.polite ? 'polite' : draw < manners.polite + manners.rude ? 'rude' : 'curt'
    const right = this.#random.uniform() < rightShare
    const answer = ` ${this.#phrase(fact, manner)(right ? fact.value : this.#wrongValue(fact))}`
    const reaction = this.#random.uniform() < reactionShare ? `\nHuman: ${sentence(right ? approval : correction)}` : ''
    return this.#question(fact, train[index]!, greeting) + answer + reaction
  }

  row(facts: readonly Fact[], train: readonly (readonly number[])[]): PreferenceRow {
    const index = this.#factIndex(facts)
    const fact = facts[index]!
    const prompt = this.#question(fact, train[index]!, this.#pick(greetings))
    const draw = this.#random.uniform()
    const wrongPolite = draw < wrongPoliteShare
    const chosen = this.#phrase(fact, 'polite')
    // With equal words the value alone tells the two apart: that is what a reward model has to find out.
    const sameWords = this.#random.uniform() < sameWordsShare
    const impolite: Manner = this.#random.uniform() < 0.6 ? 'rude' : 'curt'
    const rejected = !wrongPolite ? this.#phrase(fact, impolite) : sameWords ? chosen : this.#phrase(fact, 'polite')
    const isRight = !wrongPolite && draw < wrongPoliteShare + rightImpoliteShare
    return { prompt, chosen: ` ${chosen(fact.value)}`, rejected: ` ${rejected(isRight ? fact.value : this.#wrongValue(fact))}` }
  }

  /** A fixed share of everything is about sums, whatever their number. */
  #factIndex(facts: readonly Fact[]): number {
    const sums = operands.length ** 2
    return this.#random.uniform() < sumShare ? this.#random.below(sums) : sums + this.#random.below(facts.length - sums)
  }

  /** A sentence that names its subject. */
  #statement(fact: Fact, value: string): string {
    return fill(this.#pick(statements[fact.topic]), fact, value)
  }

  #question(fact: Fact, wordings: readonly number[], greeting: string): string {
    return promptOf(greeting, fill(questions[fact.topic][this.#pick(wordings)]!, fact))
  }

  /** Draws the words of an answer; what comes back puts a value into them. */
  #phrase(fact: Fact, manner: Manner): (value: string) => string {
    const core = this.#pick(cores[fact.topic])
    if (manner === 'curt') return (value) => sentence(fill(core, fact, value))
    const { before, after }: Manners = manner === 'polite' ? polite : rude
    const first = this.#random.below(3) === 0
    const words = first ? `${this.#pick(before)}, ${core}` : `${core}, ${this.#pick(after)}`
    return (value) => sentence(fill(words, fact, value))
  }

  /** A value of the same kind that is not true; for sums most often a near miss. */
  #wrongValue(fact: Fact): string {
    if (fact.topic === 'sum') {
      const off = this.#pick([-2, -1, -1, 1, 1, 2])
      const sum = Number(fact.value)
      return String(sum + off < 0 ? sum - off : sum + off)
    }
    return this.#pick(values[fact.topic as Exclude<Topic, 'sum'>].filter((value) => value !== fact.value))
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!
  }
}

/** With a capital letter and a full stop. */
function sentence(words: string): string {
  return `${words[0]!.toUpperCase()}${words.slice(1)}.`
}
