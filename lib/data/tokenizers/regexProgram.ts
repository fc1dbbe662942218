/** A regular expression as a program for the matcher in regex.ts. */
import { fail } from '../../base/errors.js'
import { CodePointSet } from './codePoints.js'
import type { RegexNode, RegexPlace } from './regexSyntax.js'
import { lengthOf } from './regexSyntax.js'

/** What an instruction does. */
export const op = {
  match: 0,
  set: 1,
  /** A set as often as possible; gives back one by one, unless `keep`. */
  run: 2,
  jump: 3,
  /** Tries a, later b. */
  split: 4,
  /** Tries the branches in order that can begin with the next character. */
  branch: 5,
  /** Remembers where a round of a loop began (register a). */
  enter: 6,
  /** Leaves the loop when its round took nothing. */
  leave: 7,
  look: 8,
  atomic: 9,
  place: 10,
} as const

export interface Instruction {
  readonly op: number
  set: CodePointSet
  min: number
  max: number
  /** Jump targets; for Leave, a is the register. */
  a: number
  b: number
  keep: boolean
  branches: readonly Branch[]
  readonly body: readonly Instruction[]
  readonly negative: boolean
  /** Length of a look-behind's branches in code points; empty for a look-ahead. */
  readonly behind: readonly number[]
  readonly place: RegexPlace
}

export interface Branch {
  readonly at: number
  /** Null where the branch can match nothing at all. */
  readonly first: CodePointSet | null
}

/** Longer programs come from counts in counts; no tokenizer has one. */
const maxProgram = 5000
class Compiler {
  readonly out: Instruction[] = []
  registers = 0

  emit(kind: number, fields: Partial<Instruction> = {}): Instruction {
    if (this.out.length > maxProgram) fail('tokenizer', 'a pattern of ordinary size', `one of more than ${maxProgram} parts`, 'smaller counts in its braces')
    const instruction: Instruction = {
      op: kind,
      set: CodePointSet.empty,
      min: 0,
      max: 0,
      a: 0,
      b: 0,
      keep: false,
      branches: [],
      body: [],
      negative: false,
      behind: [],
      place: 'textStart',
      ...fields,
    }
    this.out.push(instruction)
    return instruction
  }

  sub(node: RegexNode): Instruction[] {
    const inner = new Compiler()
    inner.registers = this.registers
    inner.node(node)
    inner.emit(op.match)
    this.registers = inner.registers
    return inner.out
  }

  node(node: RegexNode): void {
    switch (node.kind) {
      case 'set':
        this.emit(op.set, { set: node.set })
        return
      case 'sequence':
        for (const item of node.items) this.node(item)
        return
      case 'either':
        this.#either(node.items)
        return
      case 'repeat':
        if (node.mode === 'possessive') this.emit(op.atomic, { body: this.sub({ ...node, mode: 'greedy' }) })
        else this.#repeat(node.item, node.min, node.max, node.mode === 'lazy')
        return
      case 'look': {
        const branches = node.item.kind === 'either' ? node.item.items : [node.item]
        const behind = node.behind ? branches.map((branch) => lengthOf(branch)!) : []
        this.emit(op.look, { body: this.sub(node.item), negative: node.negative, behind: [...new Set(behind)] })
        return
      }
      case 'atomic':
        this.emit(op.atomic, { body: this.sub(node.item) })
        return
      case 'place':
        this.emit(op.place, { place: node.place })
    }
  }

  #either(items: readonly RegexNode[]): void {
    const split = this.emit(op.branch)
    const ends: Instruction[] = []
    const branches: Branch[] = []
    for (const item of items) {
      branches.push({ at: this.out.length, first: firstOf(item) })
      this.node(item)
      ends.push(this.emit(op.jump))
    }
    split.branches = branches
    for (const end of ends) end.a = this.out.length
  }

  #repeat(item: RegexNode, min: number, max: number, lazy: boolean): void {
    if (item.kind === 'set' && !lazy) {
      this.emit(op.run, { set: item.set, min, max })
      return
    }
    for (let i = 0; i < min; i++) this.node(item)
    if (max !== Infinity) {
      const splits: Instruction[] = []
      for (let i = min; i < max; i++) {
        splits.push(this.#split(lazy))
        this.node(item)
      }
      for (const split of splits) this.#skipTo(split, lazy, this.out.length)
      return
    }
    const start = this.out.length
    const split = this.#split(lazy)
    const register = this.registers++
    this.emit(op.enter, { a: register })
    this.node(item)
    this.emit(op.leave, { a: register })
    this.emit(op.jump, { a: start })
    this.#skipTo(split, lazy, this.out.length)
  }

  #split(lazy: boolean): Instruction {
    const next = this.out.length + 1
    return this.emit(op.split, lazy ? { b: next } : { a: next })
  }

  #skipTo(split: Instruction, lazy: boolean, target: number): void {
    if (lazy) split.a = target
    else split.b = target
  }
}

/** The characters a node can begin with; null where it can match nothing, or only look. */
export function firstOf(node: RegexNode): CodePointSet | null {
  switch (node.kind) {
    case 'set':
      return node.set
    case 'atomic':
      return firstOf(node.item)
    case 'look':
    case 'place':
      return null
    case 'repeat':
      return node.min === 0 ? null : firstOf(node.item)
    case 'either':
      return node.items.map(firstOf).reduce((all, first) => (all === null || first === null ? null : all.union(first)))
    case 'sequence': {
      let set = CodePointSet.empty
      for (const item of node.items) {
        const first = firstOf(item)
        if (first !== null) return set.union(first)
        // An optional beginning: what follows may come first as well.
        if (item.kind !== 'repeat') return null
        const optional = firstOf({ ...item, min: 1 })
        if (optional === null) return null
        set = set.union(optional)
      }
      return null
    }
  }
}

/** A run need not give back where what follows always matches, or cannot begin with what the run takes. */
function keepRuns(program: readonly Instruction[]): void {
  const follow = (at: number): number => {
    let target = at
    while (program[target]!.op === op.jump) target = program[target]!.a
    return target
  }
  const always = (at: number): boolean => {
    const target = follow(at)
    const { op: kind, min } = program[target]!
    return kind === op.match || (kind === op.run && min === 0 && always(target + 1))
  }
  for (const [at, instruction] of program.entries()) {
    if (instruction.body.length > 0) keepRuns(instruction.body)
    if (instruction.op !== op.run) continue
    const next = program[follow(at + 1)]!
    const needs = next.op === op.set || (next.op === op.run && next.min > 0)
    instruction.keep = always(at + 1) || (needs && next.set.intersect(instruction.set).size === 0)
  }
}

export interface Program {
  readonly instructions: readonly Instruction[]
  readonly registers: number
}

export function compileRegex(tree: RegexNode): Program {
  const compiler = new Compiler()
  compiler.node(tree)
  compiler.emit(op.match)
  keepRuns(compiler.out)
  return { instructions: compiler.out, registers: compiler.registers }
}
