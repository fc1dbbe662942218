/** The judge of the demo: is an answer right, is it polite? Exact; no model learns from it. */
import { fail } from '../base/errors.js'
import type { Fact } from './phrases.js'
import { cores, fill, greetings, polite, promptOf, questions, rude } from './phrases.js'

export interface Verdict {
  /** One complete sentence that gives the true value, and nothing besides it but manners. */
  readonly right: boolean
  /** A polite phrase in it, no rude one. */
  readonly polite: boolean
  /** Right and polite. */
  readonly ok: boolean
}

/** `stopped`: the answer ended by itself (finish "stop"); one that was cut at its length limit is never right. */
export type Checker = (prompt: string, answer: string, stopped?: boolean) => Verdict

const politePhrases: ReadonlySet<string> = new Set([...polite.before, ...polite.after])
const rudePhrases: ReadonlySet<string> = new Set([...rude.before, ...rude.after])

/**
 * Makes the checker of one world from its facts. An answer is split at its commas: exactly one part must be the
 * sentence that answers, every other part a known phrase of manners, no phrase twice. Letter case does not count,
 * nor does white space at either end. Throws on a prompt that is not of this world.
 */
export function createChecker(facts: readonly Fact[]): Checker {
  const factOf = new Map<string, Fact>()
  for (const fact of facts) {
    for (const question of questions[fact.topic]) {
      for (const greeting of greetings) factOf.set(promptOf(greeting, fill(question, fact)), fact)
    }
  }
  return (prompt, answer, stopped = true) => {
    const fact = factOf.get(prompt)
    if (fact === undefined) fail('demo checker', 'a prompt of this world', JSON.stringify(prompt), 'prompts from makeWorld with the same seed')
    return judge(fact, answer, stopped)
  }
}

function judge(fact: Fact, answer: string, stopped: boolean): Verdict {
  const turn = answer.indexOf('\nHuman:')
  const text = (turn < 0 ? answer : answer.slice(0, turn)).trim().toLowerCase()
  const complete = (stopped || turn >= 0) && text.endsWith('.')
  const parts = text.replace(/\.$/, '').split(', ')
  const manners = parts.filter((part) => politePhrases.has(part) || rudePhrases.has(part))
  const claims = parts.filter((part) => !politePhrases.has(part) && !rudePhrases.has(part))
  const isTrue = claims.length === 1 && cores[fact.topic].some((core) => fill(core, fact) === claims[0])
  const right = complete && isTrue && new Set(manners).size === manners.length
  const isPolite = manners.some((part) => politePhrases.has(part)) && !manners.some((part) => rudePhrases.has(part))
  return { right, polite: isPolite, ok: right && isPolite }
}
