/**
 * A regular expression that runs in bounded time. Patterns come from files of strangers, and a pattern like (a+)+b takes
 * exponential time in any backtracking engine, JavaScript's own included, which cannot be stopped. So the matcher is
 * ours: it backtracks in the same order as Oniguruma, counts its steps and gives up with an error. Character classes are
 * those of Python `tokenizers`, whatever Unicode this Node knows.
 */
import { fail } from '../../base/errors.js'
import type { CodePointSet } from './codePoints.js'
import { isLowSurrogate, word } from './codePoints.js'
import type { Instruction } from './regexProgram.js'
import { compileRegex, firstOf, op } from './regexProgram.js'
import type { RegexPlace } from './regexSyntax.js'
import { parseRegex } from './regexSyntax.js'

/** Steps a match may take per character of the text, far above what any tokenizer's pattern needs (about 20). */
const stepsPerCharacter = 150
const stepsAtLeast = 100_000

const noRestore = -1

export class Regex {
  readonly #program: readonly Instruction[]
  readonly #first: CodePointSet | null
  readonly #registers: Int32Array
  readonly #source: string
  /** Three numbers a frame: where to go on, from which position, and a lower bound (Run), branch or register value. */
  #stack: Int32Array = new Int32Array(1024)
  #steps = 0
  #limit = 0

  /** Throws RegexRefused for what is not Oniguruma's syntax, or not known here. */
  constructor(source: string) {
    const tree = parseRegex(source)
    const { instructions, registers } = compileRegex(tree)
    this.#program = instructions
    this.#first = firstOf(tree)
    this.#registers = new Int32Array(registers)
    this.#source = source
  }

  /**
   * All matches from left to right as start, end, start, end, ... in UTF-16 units, in an array that the next call
   * overwrites; the count of numbers is returned. The text has no lone surrogates.
   */
  findAll(text: string, into: { ends: Int32Array }): number {
    this.#steps = 0
    this.#limit = stepsAtLeast + stepsPerCharacter * text.length
    let count = 0
    let lastEnd = -1
    for (let at = 0; at <= text.length; ) {
      const end = this.#canBegin(text, at) ? this.#run(this.#program, text, at, 0) : -1
      // An empty match right behind the last match does not count.
      if (end < 0 || (end === at && at === lastEnd)) {
        at = next(text, at)
        continue
      }
      if (count + 2 > into.ends.length) into.ends = grown(into.ends)
      into.ends[count++] = at
      into.ends[count++] = end
      lastEnd = end
      at = end === at ? next(text, at) : end
    }
    return count
  }

  #canBegin(text: string, at: number): boolean {
    if (this.#first === null) return true
    return at < text.length && this.#first.has(text.codePointAt(at)!)
  }

  #tooLong(length: number): never {
    fail(
      'tokenizer',
      `a pattern that is done with ${length} characters in ${this.#limit} steps`,
      JSON.stringify(this.#source.slice(0, 100)),
      'the tokenizer.json that came with the model, or shorter texts',
    )
  }

  /** Where the match ends that begins at `from`, or -1. Frames below `base` belong to outer calls. */
  #run(program: readonly Instruction[], text: string, from: number, base: number): number {
    let at = from
    let pc = 0
    let top = base
    for (;;) {
      const instruction = program[pc]!
      if (++this.#steps > this.#limit) this.#tooLong(text.length)
      let failed = false
      switch (instruction.op) {
        case op.match:
          return at
        case op.jump:
          pc = instruction.a
          break
        case op.set: {
          const point = at < text.length ? text.codePointAt(at)! : -1
          if (point >= 0 && instruction.set.has(point)) {
            at += point > 0xffff ? 2 : 1
            pc++
          } else failed = true
          break
        }
        case op.run: {
          const { set, min, max } = instruction
          let taken = 0
          let least = at
          while (taken < max && at < text.length) {
            const point = text.codePointAt(at)!
            if (!set.has(point)) break
            at += point > 0xffff ? 2 : 1
            if (++taken === min) least = at
          }
          this.#steps += taken >> 2
          if (taken < min) failed = true
          else {
            pc++
            if (!instruction.keep && at > least) top = this.#push(top, pc, at, least)
          }
          break
        }
        case op.split:
          top = this.#push(top, instruction.b, at, noRestore)
          pc = instruction.a
          break
        case op.branch: {
          const branch = this.#nextBranch(instruction, text, at, 0)
          if (branch < 0) failed = true
          else {
            if (branch + 1 < instruction.branches.length) top = this.#push(top, -2 - pc, at, branch + 1)
            pc = instruction.branches[branch]!.at
          }
          break
        }
        case op.enter:
          // A frame that only puts the register back.
          top = this.#push(top, -1, this.#registers[instruction.a]!, instruction.a)
          this.#registers[instruction.a] = at
          pc++
          break
        case op.leave:
          // A round that took nothing ends the loop: the jump back is left out.
          pc += this.#registers[instruction.a] === at ? 2 : 1
          break
        case op.look:
          if (this.#looks(instruction, text, at, top) !== instruction.negative) pc++
          else failed = true
          break
        case op.atomic: {
          const end = this.#run(instruction.body, text, at, top)
          if (end < 0) failed = true
          else {
            at = end
            pc++
          }
          break
        }
        case op.place:
          if (isAt(instruction.place, text, at)) pc++
          else failed = true
      }
      if (!failed) continue
      // The youngest frame that leads on.
      for (;;) {
        if (top === base) return -1
        if (++this.#steps > this.#limit) this.#tooLong(text.length)
        const stack = this.#stack
        const target = stack[top - 3]!
        const extra = stack[top - 1]!
        at = stack[top - 2]!
        if (target === -1) {
          this.#registers[extra] = at
          top -= 3
        } else if (target < -1) {
          const branching = program[-2 - target]!
          const branch = this.#nextBranch(branching, text, at, extra)
          if (branch < 0 || branch + 1 >= branching.branches.length) top -= 3
          else stack[top - 1] = branch + 1
          if (branch < 0) continue
          pc = branching.branches[branch]!.at
          break
        } else if (extra === noRestore) {
          top -= 3
          pc = target
          break
        } else {
          at -= isLowSurrogate(text.charCodeAt(at - 1)) ? 2 : 1
          if (at <= extra) top -= 3
          else stack[top - 2] = at
          pc = target
          break
        }
      }
    }
  }

  #nextBranch({ branches }: Instruction, text: string, at: number, from: number): number {
    const point = at < text.length ? text.codePointAt(at)! : -1
    for (let i = from; i < branches.length; i++) {
      const { first } = branches[i]!
      if (first === null || (point >= 0 && first.has(point))) return i
    }
    return -1
  }

  #looks({ body, behind }: Instruction, text: string, at: number, top: number): boolean {
    if (behind.length === 0) return this.#run(body, text, at, top) >= 0
    for (const length of behind) {
      let start = at
      for (let i = 0; i < length && start >= 0; i++) start -= start > 0 && isLowSurrogate(text.charCodeAt(start - 1)) ? 2 : 1
      if (start >= 0 && this.#run(body, text, start, top) === at) return true
    }
    return false
  }

  #push(top: number, target: number, at: number, extra: number): number {
    if (top + 3 > this.#stack.length) this.#stack = grown(this.#stack)
    this.#stack[top] = target
    this.#stack[top + 1] = at
    this.#stack[top + 2] = extra
    return top + 3
  }
}

function grown(array: Int32Array): Int32Array {
  const bigger = new Int32Array(array.length * 2)
  bigger.set(array)
  return bigger
}

function next(text: string, at: number): number {
  return at + (at + 1 < text.length && isLowSurrogate(text.charCodeAt(at + 1)) ? 2 : 1)
}

function isAt(place: RegexPlace, text: string, at: number): boolean {
  switch (place) {
    case 'textStart':
      return at === 0
    case 'textEnd':
      return at === text.length
    case 'textEndBeforeLine':
      return at === text.length || (at === text.length - 1 && text[at] === '\n')
    case 'lineStart':
      // Not behind a line end that ends the text.
      return at === 0 || (text[at - 1] === '\n' && at < text.length)
    case 'lineEnd':
      return at === text.length || text[at] === '\n'
    case 'wordEdge':
      return isWordBefore(text, at) !== isWordAt(text, at)
    case 'noWordEdge':
      return isWordBefore(text, at) === isWordAt(text, at)
  }
}

function isWordAt(text: string, at: number): boolean {
  return at < text.length && word().has(text.codePointAt(at)!)
}

function isWordBefore(text: string, at: number): boolean {
  if (at === 0) return false
  return isWordAt(text, at - (at > 1 && isLowSurrogate(text.charCodeAt(at - 1)) ? 2 : 1))
}
