/**
 * The regular expressions of a tokenizer.json (Oniguruma's syntax) as a tree. What is not known here is refused by name:
 * a pattern that is nearly understood would cut text in the wrong places without a word.
 */
import { CodePointSet, category, whiteSpace, word, wordInClass } from './codePoints.js'
import { RegexRefused, foldedSet, propertySet } from './regexSets.js'

export type RegexNode =
  | { readonly kind: 'set'; readonly set: CodePointSet }
  | { readonly kind: 'sequence'; readonly items: readonly RegexNode[] }
  | { readonly kind: 'either'; readonly items: readonly RegexNode[] }
  | {
      readonly kind: 'repeat'
      readonly item: RegexNode
      readonly min: number
      /** Infinity where there is no limit. */
      readonly max: number
      readonly mode: 'greedy' | 'lazy' | 'possessive'
    }
  | { readonly kind: 'look'; readonly item: RegexNode; readonly behind: boolean; readonly negative: boolean }
  | { readonly kind: 'atomic'; readonly item: RegexNode }
  | { readonly kind: 'place'; readonly place: RegexPlace }

export type RegexPlace = 'textStart' | 'textEnd' | 'textEndBeforeLine' | 'lineStart' | 'lineEnd' | 'wordEdge' | 'noWordEdge'

/** Deeper nesting, or a larger count in braces, than any tokenizer writes. */
const maxDepth = 50
const longestPattern = 20_000
const maxCount = 1000

interface Flags {
  readonly ignoreCase: boolean
  readonly dotAll: boolean
}

const newLine = CodePointSet.points(0xa)
const hexDigits = CodePointSet.of([
  [0x30, 0x3a],
  [0x41, 0x47],
  [0x61, 0x67],
])
const all = CodePointSet.empty.complement()

const controls: Readonly<Record<string, number>> = { t: 0x9, n: 0xa, v: 0xb, f: 0xc, r: 0xd, a: 0x7, e: 0x1b }
const places: Readonly<Record<string, RegexPlace>> = {
  A: 'textStart',
  z: 'textEnd',
  Z: 'textEndBeforeLine',
  b: 'wordEdge',
  B: 'noWordEdge',
}
/** Parses a pattern, or throws RegexRefused. */
export function parseRegex(source: string): RegexNode {
  return new Parser(source).parse()
}

class Parser {
  readonly #source: string
  #at = 0

  constructor(source: string) {
    this.#source = source
  }

  parse(): RegexNode {
    if (this.#source.length > longestPattern) throw new RegexRefused(`${this.#source.length} characters, more than ${longestPattern}`)
    const node = this.#either({ ignoreCase: false, dotAll: false }, 0)
    if (this.#at < this.#source.length) this.#refuse('a ")" without its "("')
    return node
  }

  #refuse(what: string): never {
    throw new RegexRefused(`${what} at character ${this.#at + 1} of ${JSON.stringify(shorten(this.#source))}`)
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#source)
    if (found !== null) this.#at = pattern.lastIndex
    return found
  }

  #point(): number {
    const point = this.#source.codePointAt(this.#at)
    if (point === undefined) this.#refuse('an end in the middle')
    this.#at += point > 0xffff ? 2 : 1
    return point
  }

  #either(flags: Flags, depth: number): RegexNode {
    if (depth > maxDepth) this.#refuse(`groups nested more than ${maxDepth} deep`)
    const items = [this.#sequence(flags, depth)]
    while (this.#take('|')) items.push(this.#sequence(flags, depth))
    return items.length === 1 ? items[0]! : { kind: 'either', items }
  }

  #sequence(flags: Flags, depth: number): RegexNode {
    const items: RegexNode[] = []
    let folded = ''
    while (this.#at < this.#source.length && !'|)'.includes(this.#source[this.#at]!)) {
      // "(?i)" holds for the rest of its group.
      const rest = this.#match(/\(\?([im]+)\)/y)
      if (rest !== null) {
        items.push(this.#either({ ignoreCase: flags.ignoreCase || rest[1]!.includes('i'), dotAll: flags.dotAll || rest[1]!.includes('m') }, depth + 1))
        continue
      }
      const start = this.#at
      const item = this.#atom(flags, depth)
      const text = this.#source.slice(start, this.#at)
      folded = flags.ignoreCase && /^[a-zA-Z]$/.test(text) ? folded + text.toLowerCase() : ''
      // "ss" also matches "ß" without case, and so on: one character for two.
      if (/(?:ss|ff|fi|fl|st)$/.test(folded)) this.#refuse(`"${folded}" without regard to case`)
      items.push(this.#quantified(item))
    }
    return items.length === 1 ? items[0]! : { kind: 'sequence', items }
  }

  #quantified(atom: RegexNode): RegexNode {
    let node = atom
    for (;;) {
      const found = this.#match(/[*+?]|\{(\d+)(?:(,)(\d*))?\}|\{,(\d+)\}/y)
      if (found === null) return node
      if (node.kind === 'place' || node.kind === 'look') this.#refuse('a repeated look-around or anchor')
      const [sign, least, comma, most, onlyMost] = found
      let [min, max] = sign === '*' ? [0, Infinity] : sign === '+' ? [1, Infinity] : [0, 1]
      let mode: 'greedy' | 'lazy' | 'possessive' = 'greedy'
      if (sign.startsWith('{')) {
        min = Number(least ?? 0)
        max = onlyMost !== undefined ? Number(onlyMost) : comma === undefined ? min : most === '' ? Infinity : Number(most)
        if (min > maxCount || (max !== Infinity && max > maxCount)) this.#refuse(`a count above ${maxCount}`)
        if (min > max) this.#refuse('a count that ends below its beginning')
        // A brace with "+" behind it is repeated, not possessive; "{n}?" has two readings.
        if (this.#source[this.#at] === '?') {
          if (comma === undefined && onlyMost === undefined) this.#refuse('"{n}?"')
          this.#at++
          mode = 'lazy'
        }
      } else if (this.#take('?')) mode = 'lazy'
      else if (this.#take('+')) mode = 'possessive'
      node = { kind: 'repeat', item: node, min, max, mode }
    }
  }

  #atom(flags: Flags, depth: number): RegexNode {
    const character = this.#source[this.#at]!
    if (character === '(') return this.#group(flags, depth)
    if (character === '[') {
      this.#at++
      return { kind: 'set', set: this.#folded(this.#class(depth), flags) }
    }
    if (character === '\\') return this.#escape(flags)
    if ('*+?'.includes(character)) this.#refuse(`"${character}" with nothing to repeat`)
    if (character === '.') {
      this.#at++
      return { kind: 'set', set: flags.dotAll ? all : newLine.complement() }
    }
    if (character === '^' || character === '$') {
      this.#at++
      return { kind: 'place', place: character === '^' ? 'lineStart' : 'lineEnd' }
    }
    return { kind: 'set', set: this.#folded(CodePointSet.points(this.#point()), flags) }
  }

  #group(flags: Flags, depth: number): RegexNode {
    const start = this.#at
    const opened = this.#match(/\(\?(?:([im]*)(?:-([im]+))?:|(>)|(<?[=!])|<[A-Za-z_]\w*>)|\((?!\?)/y)
    if (opened === null) this.#refuse(`the group "${this.#source.slice(start, start + 4)}"`)
    const [, on = '', off = '', atomic, look] = opened
    const inner: Flags = {
      ignoreCase: (flags.ignoreCase || on.includes('i')) && !off.includes('i'),
      dotAll: (flags.dotAll || on.includes('m')) && !off.includes('m'),
    }
    const item = this.#either(inner, depth + 1)
    if (!this.#take(')')) this.#refuse('a "(" without its ")"')
    if (atomic !== undefined) return { kind: 'atomic', item }
    if (look === undefined) return item
    const behind = look.startsWith('<')
    if (behind) for (const branch of item.kind === 'either' ? item.items : [item]) this.#fixedLength(branch)
    return { kind: 'look', item, behind, negative: look.endsWith('!') }
  }

  #fixedLength(node: RegexNode): void {
    if (lengthOf(node) === null) this.#refuse('a look-behind without a fixed length')
  }

  /** An escape outside a class. */
  #escape(flags: Flags): RegexNode {
    const letter = this.#source[this.#at + 1]
    const place = letter === undefined ? undefined : places[letter]
    if (place !== undefined) {
      this.#at += 2
      return { kind: 'place', place }
    }
    const found = this.#escaped(false)
    return { kind: 'set', set: this.#folded(typeof found === 'number' ? CodePointSet.points(found) : found, flags) }
  }

  /** An escape: one code point, or a set. */
  #escaped(inClass: boolean): number | CodePointSet {
    this.#at++
    const property = this.#match(/([pP])\{(\^?)([^}]*)\}/y)
    if (property !== null) {
      const set = this.#property(property[3]!)
      return (property[1] === 'P') !== (property[2] === '^') ? set.complement() : set
    }
    const hex = this.#match(/x\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})/y)
    if (hex !== null) {
      const point = parseInt(hex[1] ?? hex[2] ?? hex[3]!, 16)
      // "\xC3" alone is a byte to the regex engine, not a character.
      if (point > 0x10ffff || (hex[2] !== undefined && point > 0x7f)) this.#refuse(`"\\${hex[0]}"`)
      return point
    }
    const letter = String.fromCodePoint(this.#point())
    const control = controls[letter]
    if (control !== undefined) return control
    const wordSet = inClass ? wordInClass : word
    switch (letter) {
      case 's':
        return whiteSpace
      case 'S':
        return whiteSpace.complement()
      case 'd':
        return category('Nd')!
      case 'D':
        return category('Nd')!.complement()
      case 'w':
        return wordSet()
      case 'W':
        return wordSet().complement()
      case 'h':
        return hexDigits
      case 'H':
        return hexDigits.complement()
    }
    if (/[A-Za-z0-9]/.test(letter)) this.#refuse(`"\\${letter}"`)
    return letter.codePointAt(0)!
  }

  #property(name: string): CodePointSet {
    return propertySet(name) ?? this.#refuse(`the property "${name}"`)
  }

  /** A class behind its "[". */
  #class(depth: number): CodePointSet {
    if (depth > maxDepth) this.#refuse(`classes nested more than ${maxDepth} deep`)
    const negated = this.#take('^')
    let whole: CodePointSet | null = null
    let ranges: (readonly [number, number])[] = []
    const operand = (): CodePointSet => (whole === null ? CodePointSet.of(ranges) : whole.intersect(CodePointSet.of(ranges)))
    // A "]" that comes first is a member.
    let first = true
    for (; ; first = false) {
      if (this.#at >= this.#source.length) this.#refuse('a "[" without its "]"')
      if (!first && this.#take(']')) break
      if (this.#take('&&')) {
        whole = operand()
        ranges = []
        continue
      }
      if (this.#source.startsWith('[:', this.#at)) this.#refuse('a POSIX class')
      if (this.#take('[')) {
        ranges.push(...this.#class(depth + 1).ranges())
        continue
      }
      const from = this.#member()
      const isRange = /^-[^\]]/s.test(this.#source.slice(this.#at, this.#at + 2))
      if (typeof from !== 'number') {
        if (isRange) this.#refuse('a range that begins with a class')
        ranges.push(...from.ranges())
        continue
      }
      if (!isRange) {
        ranges.push([from, from + 1])
        continue
      }
      this.#at++
      const to = this.#member()
      if (typeof to !== 'number' || to < from) this.#refuse('a range that ends before it begins')
      ranges.push([from, to + 1])
    }
    const members = operand()
    return negated ? members.complement() : members
  }

  #member(): number | CodePointSet {
    return this.#source[this.#at] === '\\' ? this.#escaped(true) : this.#point()
  }

  #folded(set: CodePointSet, { ignoreCase }: Flags): CodePointSet {
    return ignoreCase ? foldedSet(set) : set
  }
}

/** How many code points a node matches, or null where that varies. */
export function lengthOf(node: RegexNode): number | null {
  switch (node.kind) {
    case 'set':
      return 1
    case 'look':
    case 'place':
      return 0
    case 'atomic':
      return lengthOf(node.item)
    case 'repeat': {
      const length = lengthOf(node.item)
      return length === null || node.min !== node.max ? null : length * node.min
    }
    case 'sequence':
      return node.items.reduce<number | null>((sum, item) => {
        const length = lengthOf(item)
        return sum === null || length === null ? null : sum + length
      }, 0)
    case 'either': {
      const [length, ...others] = node.items.map(lengthOf)
      return others.every((other) => other === length) ? length! : null
    }
  }
}

function shorten(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`
}
