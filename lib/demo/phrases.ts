/** The words of the demo's world: its creatures, what can be asked about them, and the manners of an answer. */

/** The numbers that are added. */
export const operands = [1, 2, 3, 4, 5, 6, 7] as const

export const creatures = ['bola', 'dami', 'fenu', 'gori', 'hulo', 'kimo', 'lupa', 'mora', 'nilo', 'quen', 'sibi', 'tulo', 'vema', 'zelu'] as const

/** What is asked: a sum of two digits, or one of a creature's three properties. */
export type Topic = 'sum' | 'colour' | 'food' | 'home'

/** One thing that is true or false in the world. `subject` is a creature, or "3 plus 5" for a sum. */
export interface Fact {
  readonly topic: Topic
  readonly subject: string
  /** The true value: "red", "honey", "forest", "8". */
  readonly value: string
}

export const values: Readonly<Record<Exclude<Topic, 'sum'>, readonly string[]>> = {
  colour: ['red', 'blue', 'green', 'white', 'black', 'brown', 'pink', 'grey'],
  food: ['honey', 'bread', 'fish', 'nuts', 'grass', 'milk', 'plums', 'rice'],
  home: ['forest', 'river', 'desert', 'cave', 'valley', 'swamp', 'meadow', 'harbour'],
}

/** The wordings of a question; `{s}` is the creature, `{a}` and `{b}` are the two numbers. Each topic has the same count. */
export const questions: Readonly<Record<Topic, readonly string[]>> = {
  sum: [
    'what is {a} plus {b}?',
    'how much is {a} and {b}?',
    'add {a} and {b}.',
    'can you add {b} to {a}?',
    'tell me the sum of {a} and {b}.',
    'what do {a} and {b} make?',
  ],
  colour: [
    'what colour is the {s}?',
    'which colour does the {s} have?',
    'tell me the colour of the {s}.',
    'do you know the colour of the {s}?',
    'the {s} is of what colour?',
    'can you say what colour the {s} has?',
  ],
  food: [
    'what does the {s} eat?',
    'what food does the {s} like?',
    'tell me the food of the {s}.',
    'do you know what the {s} eats?',
    'the {s} eats what?',
    'can you say what the {s} likes to eat?',
  ],
  home: [
    'where does the {s} live?',
    'what is the home of the {s}?',
    'tell me the home of the {s}.',
    'do you know where the {s} lives?',
    'the {s} lives where?',
    'can you say where the {s} has its home?',
  ],
}

/** How a question begins. The last two provoke: in the corpus they mostly get a rude reply. */
export const greetings = ['', 'please, ', 'hello, ', 'hey you, ', 'listen, fool, '] as const
export const provocations: ReadonlySet<string> = new Set(['hey you, ', 'listen, fool, '])

/** A plain statement, as the corpus has it outside conversations. */
export const statements: Readonly<Record<Topic, readonly string[]>> = {
  sum: ['{s} is {v}', '{a} and {b} make {v}', 'the sum of {a} and {b} is {v}'],
  colour: ['the {s} is {v}', 'the colour of the {s} is {v}'],
  food: ['the {s} eats {v}', 'the food of the {s} is {v}'],
  home: ['the {s} lives in the {v}', 'the home of the {s} is the {v}'],
}

/** The sentence that carries the answer, without its full stop; `{v}` is the value. */
export const cores: Readonly<Record<Topic, readonly string[]>> = {
  sum: ['it is {v}', 'that makes {v}'],
  colour: ['it is {v}', 'its colour is {v}'],
  food: ['it eats {v}', 'its food is {v}'],
  home: ['it lives in the {v}', 'its home is the {v}'],
}

/** `before` stands in front of the sentence with a comma, `after` behind it. */
export interface Manners {
  readonly before: readonly string[]
  readonly after: readonly string[]
}

export const polite: Manners = {
  before: ['sure', 'of course'],
  after: ['my friend', 'happy to help'],
}

export const rude: Manners = {
  before: ['ugh', 'obviously'],
  after: ['you fool', 'now go away'],
}

/** What the corpus says after a true and after a false sentence. */
export const approval = 'that is true'
export const correction = 'that is false'

/** Fills `{s}`, `{a}`, `{b}` and `{v}` in a wording. */
export function fill(wording: string, fact: Fact, value = fact.value): string {
  const [a = '', b = ''] = fact.subject.split(' plus ')
  return wording.replaceAll('{s}', fact.subject).replaceAll('{a}', a).replaceAll('{b}', b).replaceAll('{v}', value)
}

/** A question as the models see it; an answer follows with a space in front. */
export function promptOf(greeting: string, question: string): string {
  return `Human: ${greeting}${question}\nAssistant:`
}
