/** Sets of Unicode code points, and the classes of characters that Python `tokenizers` knows. */
import * as data from './unicodeData.js'

const last = 0x10ffff
/** Below this, membership is one array look-up. */
const direct = 0x800

/** A set of code points as sorted, disjoint ranges. */
export class CodePointSet {
  /** Range i is [bounds[2i], bounds[2i + 1]). */
  readonly bounds: Int32Array
  #low: Uint8Array | null = null

  private constructor(bounds: Int32Array) {
    this.bounds = bounds
  }

  static readonly empty = new CodePointSet(new Int32Array(0))

  /** From ranges [first, last + 1), in any order, overlapping or not. */
  static of(ranges: Iterable<readonly [number, number]>): CodePointSet {
    const sorted = [...ranges].filter(([from, to]) => from < to).sort((a, b) => a[0] - b[0])
    const bounds: number[] = []
    for (const [from, to] of sorted) {
      const end = bounds.at(-1)
      if (end !== undefined && from <= end) bounds[bounds.length - 1] = Math.max(end, to)
      else bounds.push(from, to)
    }
    return new CodePointSet(Int32Array.from(bounds))
  }

  static points(...points: number[]): CodePointSet {
    return CodePointSet.of(points.map((point) => [point, point + 1] as const))
  }

  *ranges(): Generator<[number, number]> {
    for (let i = 0; i < this.bounds.length; i += 2) yield [this.bounds[i]!, this.bounds[i + 1]!]
  }

  get size(): number {
    let size = 0
    for (const [from, to] of this.ranges()) size += to - from
    return size
  }

  has(point: number): boolean {
    if (point < direct) return (this.#low ??= this.#lowTable())[point] === 1
    return this.#search(point)
  }

  union(other: CodePointSet): CodePointSet {
    return CodePointSet.of([...this.ranges(), ...other.ranges()])
  }

  complement(): CodePointSet {
    const out: [number, number][] = []
    let from = 0
    for (const [first, end] of this.ranges()) {
      out.push([from, first])
      from = end
    }
    out.push([from, last + 1])
    return CodePointSet.of(out)
  }

  intersect(other: CodePointSet): CodePointSet {
    return this.complement().union(other.complement()).complement()
  }

  minus(other: CodePointSet): CodePointSet {
    return this.intersect(other.complement())
  }

  #lowTable(): Uint8Array {
    const table = new Uint8Array(direct)
    for (const [from, to] of this.ranges()) {
      if (from >= direct) break
      table.fill(1, from, Math.min(to, direct))
    }
    return table
  }

  #search(point: number): boolean {
    const { bounds } = this
    // The number of bounds that are <= point is odd inside a range.
    let low = 0
    let high = bounds.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (bounds[middle]! <= point) low = middle + 1
      else high = middle
    }
    return (low & 1) === 1
  }
}

/** Base64 of varints, little groups first. */
function* varints(base64: string): Generator<number> {
  let value = 0
  let shift = 0
  for (const byte of Buffer.from(base64, 'base64')) {
    value |= (byte & 0x7f) << shift
    shift += 7
    if (byte >= 0x80) continue
    yield value
    value = 0
    shift = 0
  }
}

/** Gap, length, gap, length, ... */
function decodeRanges(base64: string): CodePointSet {
  const ranges: [number, number][] = []
  const numbers = varints(base64)
  let end = 0
  for (let gap = numbers.next(); gap.done !== true; gap = numbers.next()) {
    const from = end + gap.value
    end = from + (numbers.next().value as number)
    ranges.push([from, end])
  }
  return CodePointSet.of(ranges)
}

function decodeCategories(): ReadonlyMap<string, CodePointSet> {
  const ranges = new Map<string, [number, number][]>(data.categoryNames.map((name) => [name, []]))
  const bytes = Buffer.from(data.categoryRuns, 'base64')
  let point = 0
  for (let at = 0; at < bytes.length; ) {
    const name = data.categoryNames[bytes[at++]!]
    let length = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!
      length |= (byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    if (name !== undefined) ranges.get(name)!.push([point, point + length])
    point += length
  }
  return new Map(Array.from(ranges, ([name, list]) => [name, CodePointSet.of(list)]))
}

const made = new Map<string, CodePointSet>()

function once(name: string, make: () => CodePointSet): CodePointSet {
  let set = made.get(name)
  if (set === undefined) {
    set = make()
    made.set(name, set)
  }
  return set
}

let categories: ReadonlyMap<string, CodePointSet> | null = null

/** A general category ("Lu") or a group of them ("L"); null for another name. */
export function category(name: string): CodePointSet | null {
  categories ??= decodeCategories()
  const exact = categories.get(name)
  if (exact !== undefined) return exact
  if (!/^[LMNPSZC]$/.test(name)) return null
  return once(name, () => {
    const members = Array.from(categories!).filter(([key]) => key.startsWith(name))
    return CodePointSet.of(members.flatMap(([, set]) => [...set.ranges()]))
  })
}

function categoriesTogether(...names: string[]): CodePointSet {
  return CodePointSet.of(names.flatMap((name) => [...category(name)!.ranges()]))
}

/** White_Space: what Rust's char::is_whitespace and the regex engine's \s take. JavaScript's \s has U+FEFF and lacks U+0085. */
export const whiteSpace = CodePointSet.of([
  [0x9, 0xe],
  [0x20, 0x21],
  [0x85, 0x86],
  [0xa0, 0xa1],
  [0x1680, 0x1681],
  [0x2000, 0x200b],
  [0x2028, 0x202a],
  [0x202f, 0x2030],
  [0x205f, 0x2060],
  [0x3000, 0x3001],
])

/** Letters in circles and squares: alphabetic, though symbols. */
const letterSymbols = CodePointSet.of([
  [0x24b6, 0x24ea],
  [0x1f130, 0x1f14a],
  [0x1f150, 0x1f16a],
  [0x1f170, 0x1f18a],
])

/** \w of the regex engine inside a character class: Alphabetic, marks, decimal digits, connectors. */
export const wordInClass = (): CodePointSet =>
  once('wordInClass', () => categoriesTogether('L', 'M', 'Nd', 'Nl', 'Pc').union(letterSymbols))

/** \w outside a class: also the superscript digits and the fractions of Latin-1. */
export const word = (): CodePointSet =>
  once('word', () => wordInClass().union(CodePointSet.points(0xb2, 0xb3, 0xb9, 0xbc, 0xbd, 0xbe)))

/** \w of Rust's regex crate (the pre-tokenizer Whitespace, single_word of added tokens): with the zero-width joiners. */
export const rustWord = (): CodePointSet => once('rustWord', () => wordInClass().union(CodePointSet.points(0x200c, 0x200d)))

/** What BertPreTokenizer and Punctuation split off. */
export const bertPunctuation = (): CodePointSet => once('bertPunctuation', () => decodeRanges(data.bertPunctuation))

/** What BertNormalizer's clean_text removes: control characters, U+0000 and U+FFFD. */
export const bertRemoved = (): CodePointSet => once('bertRemoved', () => decodeRanges(data.bertRemoved))

/** Marks that BertNormalizer's strip_accents removes. */
export const bertAccents = (): CodePointSet => once('bertAccents', () => decodeRanges(data.bertAccents))

/** What Digits splits off. */
export const numeric = (): CodePointSet => once('numeric', () => decodeRanges(data.numeric))

/** Combining marks the normalizers know. */
export const accents = (): CodePointSet => once('accents', () => categoriesTogether('M').minus(youngerThanNormalizer()))

/** Code points that a younger Unicode decomposes, composes or reorders and the normalizers leave alone. */
export const youngerThanNormalizer = (): CodePointSet =>
  once('younger', () => {
    const known = categoriesTogether('L', 'M', 'N', 'P', 'S', 'Z', 'C')
    const surrogates = CodePointSet.of([[0xd800, 0xe000]])
    return decodeRanges(data.youngerThanNormalizer).union(known.union(surrogates).complement())
  })

/** Ideographs that BertNormalizer puts spaces around. */
export const bertIdeographs = CodePointSet.of([
  [0x3400, 0x4dc0],
  [0x4e00, 0xa000],
  [0xf900, 0xfb00],
  [0x20000, 0x2a6e0],
  [0x2a700, 0x2b820],
  [0x2b920, 0x2ceb0],
  [0x2f800, 0x2fa20],
])

/** Where a text may not be cut: between the halves of a character beyond U+FFFF. */
export function isLowSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00
}

/** Index after the white space at the start of a text. */
export function spaceAtStart(text: string, from: number): number {
  let end = from
  while (end < text.length && whiteSpace.has(text.charCodeAt(end))) end++
  return end
}

/** Index where the white space at the end of text[0, to) begins. */
export function spaceAtEnd(text: string, to: number): number {
  let start = to
  while (start > 0 && whiteSpace.has(text.charCodeAt(start - 1))) start--
  return start
}
