/**
 * A pickle machine that builds plain values and calls nothing but what its caller lists. Python's own machine runs any
 * function that a pickle names; here a global outside the list ends the reading, with its name in the error.
 * Opcodes: CPython, Lib/pickletools.py. Text strings of protocol 0 are left out: torch cannot write a tensor with it.
 */
import type { PickleSource } from './pickleSource.js'
import { shown } from './tensorFiles.js'

export class PickleTuple {
  constructor(readonly items: readonly unknown[]) {}
}

export class PickleOrderedDict extends Map<unknown, unknown> {}

/** A global that the caller lists; `call` is null where it only stands for something, like a storage type. */
export class PickleGlobal {
  constructor(
    readonly name: string,
    readonly call: ((args: readonly unknown[]) => unknown) | null,
  ) {}
}

/** What a pickle may reach outside itself. */
export interface PickleWorld {
  global(name: string): PickleGlobal | undefined
  persistent(id: unknown): unknown
}

/**
 * What one pickle may build: a container costs 16, a value put into one costs 1. That holds 260,000 containers, some
 * 40,000 tensors, in at most 100 MB or so, and bounds the time of a pickle that repeats one long list.
 */
const budget = 1 << 22
const containerCost = 16
const maxStack = 1 << 20
const maxMemo = 1 << 20
const maxIntegerDigits = 1000

/** Reads one pickle up to and with its STOP. Lists are arrays, dicts are Maps, None is null. */
export function readPickle(source: PickleSource, world: PickleWorld): unknown {
  return new Machine(source, world).run()
}

/** "a dict", "a tuple": the kind of an unpickled value, for error messages. */
export function pickleKind(value: unknown): string {
  if (value === null) return 'None'
  if (value instanceof Map) return 'a dict'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof PickleTuple) return 'a tuple'
  if (value instanceof PickleGlobal) return `the global ${value.name}`
  if (value instanceof Uint8Array) return 'bytes'
  return typeof value === 'object' ? 'a tensor or storage' : `a ${typeof value}`
}

class Machine {
  private readonly stack: unknown[] = []
  /** Heights of the stack at which a MARK stands. */
  private readonly marks: number[] = []
  private readonly memo: unknown[] = []
  private spent = 0

  constructor(
    private readonly source: PickleSource,
    private readonly world: PickleWorld,
  ) {}

  run(): unknown {
    for (;;) {
      const opcode = this.source.byte()
      if (opcode === 0x2e) return this.#pop() // .
      this.#step(opcode)
      if (this.stack.length > maxStack || this.marks.length > maxStack) {
        this.#refuse(`at most ${maxStack} values at once`, 'a pickle that piles up more')
      }
    }
  }

  #refuse(expected: string, received: string, cure?: string): never {
    return this.source.refuse(expected, received, cure)
  }

  #refuseGlobal(name: string): never {
    this.#refuse(
      'nothing but tensors and plain values',
      `a pickle that names ${name}, which could run code`,
      'a checkpoint from a source you trust, saved as safetensors or as a state dict alone',
    )
  }

  #step(opcode: number): void {
    const { source, stack } = this
    switch (opcode) {
      // numbers, None and booleans
      case 0x4e: // N
        return this.#push(null)
      case 0x88:
        return this.#push(true)
      case 0x89:
        return this.#push(false)
      case 0x4b: // K
        return this.#push(source.byte())
      case 0x4d: // M
        return this.#push(source.take(2).readUInt16LE())
      case 0x4a: // J
        return this.#push(source.take(4).readInt32LE())
      case 0x47: // G
        return this.#push(source.take(8).readDoubleBE())
      case 0x8a:
        return this.#push(this.#long(source.byte()))
      case 0x8b:
        return this.#push(this.#long(source.length(4)))
      case 0x49: // I
      case 0x4c: // L
        return this.#push(this.#textInteger(source.line()))
      case 0x46: // F
        return this.#push(this.#textFloat(source.line()))
      // strings and bytes; T and U are Python 2's str
      case 0x55: // U
      case 0x8c:
        return this.#push(source.text(source.byte()))
      case 0x54: // T
      case 0x58: // X
        return this.#push(source.text(source.length(4)))
      case 0x8d:
        return this.#push(source.text(source.length(8)))
      case 0x43: // C
        return this.#push(new Uint8Array(source.take(source.byte())))
      case 0x42: // B
        return this.#push(new Uint8Array(source.take(source.length(4))))
      case 0x8e:
      case 0x96:
        return this.#push(new Uint8Array(source.take(source.length(8))))
      // containers
      case 0x28: // (
        this.marks.push(stack.length)
        return
      case 0x5d: // ]
        return this.#container([])
      case 0x7d: // }
        return this.#container(new Map())
      case 0x29: // )
        return this.#container(new PickleTuple([]))
      case 0x85:
      case 0x86:
      case 0x87:
        return this.#container(new PickleTuple(this.#popMany(opcode - 0x84)))
      case 0x74: // t
        return this.#container(new PickleTuple(this.#popToMark()))
      case 0x6c: // l
        return this.#container(this.#popToMark())
      case 0x64: // d
        return this.#container(this.#fill(new Map(), this.#popToMark()))
      case 0x61: // a
        return this.#append(this.#popMany(1))
      case 0x65: // e
        return this.#append(this.#popToMark())
      case 0x73: // s
        return this.#setItems(this.#popMany(2))
      case 0x75: // u
        return this.#setItems(this.#popToMark())
      // the stack and the memo
      case 0x30: // 0
        if (this.marks.at(-1) === stack.length) this.marks.pop()
        else this.#pop()
        return
      case 0x31: // 1
        this.#popToMark()
        return
      case 0x32: // 2
        return this.#push(this.#top())
      case 0x67: // g
        return this.#recall(this.#textIndex())
      case 0x68: // h
        return this.#recall(source.byte())
      case 0x6a: // j
        return this.#recall(source.length(4))
      case 0x70: // p
        return this.#remember(this.#textIndex())
      case 0x71: // q
        return this.#remember(source.byte())
      case 0x72: // r
        return this.#remember(source.length(4))
      case 0x94:
        return this.#remember(this.memo.length)
      // the frame of a pickle
      case 0x80: {
        const protocol = source.byte()
        if (protocol > 5) this.#refuse('a pickle of protocol 0 to 5', `protocol ${protocol}`)
        return
      }
      case 0x95:
        return source.expect(source.length(8))
      // what reaches outside
      case 0x63: // c
        return this.#push(this.#global(source.line(), source.line()))
      case 0x93: {
        const [module, name] = this.#popMany(2)
        if (typeof module !== 'string' || typeof name !== 'string') {
          this.#refuse('a global by two strings', `${pickleKind(module)} and ${pickleKind(name)}`)
        }
        return this.#push(this.#global(module, name))
      }
      case 0x51: // Q
        return this.#push(this.world.persistent(this.#pop()))
      case 0x52: // R
        return this.#reduce()
      case 0x62: // b
        return this.#build()
      default:
        return this.#refuseOpcode(opcode)
    }
  }

  #push(value: unknown): void {
    this.stack.push(value)
  }

  #container(value: unknown): void {
    this.#spend(containerCost)
    this.stack.push(value)
  }

  #spend(cost: number): void {
    this.spent += cost
    if (this.spent > budget) this.#refuse(`a pickle of fewer values (a container counts ${containerCost})`, `more than ${budget}`)
  }

  #floor(): number {
    return this.marks.at(-1) ?? 0
  }

  #pop(): unknown {
    return this.#popMany(1)[0]
  }

  #popMany(count: number): unknown[] {
    if (this.stack.length - count < this.#floor()) this.#refuseShort()
    return this.stack.splice(this.stack.length - count)
  }

  #popToMark(): unknown[] {
    const mark = this.marks.pop()
    if (mark === undefined) this.#refuse('a MARK before the opcode that goes back to it', `none at byte ${this.source.offset}`)
    const items = this.stack.splice(mark)
    this.#spend(items.length)
    return items
  }

  #top(): unknown {
    if (this.stack.length <= this.#floor()) this.#refuseShort()
    return this.stack.at(-1)
  }

  #refuseShort(): never {
    this.#refuse('a value for every opcode', `an empty stack at byte ${this.source.offset}`)
  }

  #long(bytes: number): number | bigint {
    if (bytes > maxIntegerDigits) this.#refuse(`an integer of at most ${maxIntegerDigits} bytes`, `${bytes}`)
    const digits = [...this.source.take(bytes)].reverse().map((byte) => byte.toString(16).padStart(2, '0'))
    return narrow(bytes === 0 ? 0n : BigInt.asIntN(bytes * 8, BigInt(`0x${digits.join('')}`)))
  }

  #textInteger(line: string): number | bigint | boolean {
    // Protocol 1 writes True as I01 and False as I00.
    if (line === '01' || line === '00') return line === '01'
    const digits = line.replace(/L$/, '')
    if (!/^[+-]?\d+$/.test(digits) || digits.length > maxIntegerDigits) this.#refuse('an integer in digits', shown(line))
    return narrow(BigInt(digits.replace(/^\+/, '')))
  }

  #textFloat(line: string): number {
    const special: Readonly<Record<string, number>> = { inf: Infinity, '-inf': -Infinity, nan: NaN }
    if (Object.hasOwn(special, line)) return special[line]!
    if (!/^[+-]?[\d.]+(?:[eE][+-]?\d+)?$/.test(line) || Number.isNaN(Number(line))) this.#refuse('a number in digits', shown(line))
    return Number(line)
  }

  #textIndex(): number {
    const line = this.source.line()
    if (!/^\d{1,9}$/.test(line)) this.#refuse('a place in the memo', shown(line))
    return Number(line)
  }

  #append(items: readonly unknown[]): void {
    const list = this.#top()
    if (!Array.isArray(list)) this.#refuse('a list to append to', pickleKind(list))
    this.#spend(items.length)
    for (const item of items) list.push(item)
  }

  #setItems(items: readonly unknown[]): void {
    const dict = this.#top()
    if (!(dict instanceof Map)) this.#refuse('a dict to set items of', pickleKind(dict))
    this.#fill(dict as Map<unknown, unknown>, items)
  }

  /** Keys and values in turn. */
  #fill<T extends Map<unknown, unknown>>(dict: T, items: readonly unknown[]): T {
    if (items.length % 2 !== 0) this.#refuse('a value for each key of a dict', 'a key without one')
    this.#spend(items.length)
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index]
      if (Array.isArray(key) || key instanceof Map) this.#refuse('keys that Python can hash', pickleKind(key))
      dict.set(key, items[index + 1])
    }
    return dict
  }

  #remember(place: number): void {
    // Picklers number in order (Python 2 from 1); a place far beyond would only cost memory.
    if (place > this.memo.length + 1 || place >= maxMemo) {
      this.#refuse(`memo places in order, below ${maxMemo}`, `place ${place} after ${this.memo.length}`)
    }
    this.memo[place] = this.#top()
  }

  #recall(place: number): void {
    const value = this.memo[place]
    if (value === undefined) this.#refuse('a memo place that was filled', `place ${place} of ${this.memo.length}`)
    this.stack.push(value)
  }

  #global(module: string, name: string): PickleGlobal {
    const full = `${module}.${name}`
    const found = this.world.global(full)
    return found ?? this.#refuseGlobal(/^[\w.]{1,200}$/.test(full) ? full : shown(full))
  }

  #reduce(): void {
    const [callee, args] = this.#popMany(2)
    if (!(callee instanceof PickleGlobal)) this.#refuse('a call of a global', `a call of ${pickleKind(callee)}`)
    if (callee.call === null) this.#refuseGlobal(`${callee.name} as something to call`)
    if (!(args instanceof PickleTuple)) this.#refuse(`a tuple of arguments for ${callee.name}`, pickleKind(args))
    // An OrderedDict copies its argument, a tensor its shape.
    for (const item of args.items) this.#spend(sizeOf(item))
    this.#container(callee.call(args.items))
  }

  /** State of an object. A module's state dict carries its `_metadata` that way: it says nothing about tensors. */
  #build(): void {
    const [object, state] = this.#popMany(2)
    if (!(object instanceof PickleOrderedDict) || !(state instanceof Map)) {
      this.#refuse('state on an OrderedDict alone', `a pickle that builds ${pickleKind(object)} from ${pickleKind(state)}`)
    }
    this.stack.push(object)
  }

  #refuseOpcode(opcode: number): never {
    if (opcode === 0x69) this.#refuseGlobal(`${this.source.line()}.${this.source.line()} (INST)`) // i
    if (opcode === 0x81) this.#refuseClass('NEWOBJ', this.#popMany(2)[0])
    if (opcode === 0x92) this.#refuseClass('NEWOBJ_EX', this.#popMany(3)[0])
    if (opcode === 0x6f) this.#refuseClass('OBJ', this.#popToMark()[0]) // o
    if (opcode >= 0x82 && opcode <= 0x84) this.#refuseGlobal('an extension code')
    const names: Readonly<Record<number, string>> = {
      0x50: 'PERSID',
      0x53: 'STRING',
      0x56: 'UNICODE',
      0x8f: 'EMPTY_SET',
      0x90: 'ADDITEMS',
      0x91: 'FROZENSET',
      0x97: 'NEXT_BUFFER',
      0x98: 'READONLY_BUFFER',
    }
    const received = names[opcode] ?? `the byte 0x${opcode.toString(16).padStart(2, '0')}`
    this.#refuse('pickle opcodes that torch writes', `${received} at byte ${this.source.offset - 1}`)
  }

  #refuseClass(opcode: string, of: unknown): never {
    this.#refuseGlobal(`${of instanceof PickleGlobal ? of.name : pickleKind(of)} (${opcode})`)
  }
}

function sizeOf(value: unknown): number {
  return Array.isArray(value) ? value.length : value instanceof PickleTuple ? value.items.length : 1
}

/** A number where it is exact, else the bigint. */
function narrow(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
