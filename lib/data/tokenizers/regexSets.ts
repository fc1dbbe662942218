/** The named sets of a regular expression, and sets without regard to case. */
import { CodePointSet, category, whiteSpace } from './codePoints.js'

/** Why a pattern cannot be used, as words for the end of "expected a pattern of ..., received". */
export class RegexRefused extends Error {}

/** A class with more members has no place in a (?i: ) group: its case variants are not worked out. */
const maxFolded = 5000

const longCategories: Readonly<Record<string, string>> = {
  letter: 'L',
  uppercaseletter: 'Lu',
  lowercaseletter: 'Ll',
  mark: 'M',
  number: 'N',
  decimalnumber: 'Nd',
  punctuation: 'P',
  symbol: 'S',
  separator: 'Z',
  other: 'C',
}
const scripts = ['Han', 'Hiragana', 'Katakana', 'Hangul', 'Latin', 'Cyrillic', 'Greek', 'Arabic', 'Hebrew', 'Thai', 'Devanagari']

/** The set of \p{name}; null for a name that is not known. */
export function propertySet(name: string): CodePointSet | null {
  const exact = category(name)
  if (exact !== null) return exact
  const plain = name.replaceAll(/[ _-]/g, '').toLowerCase()
  const long = Object.hasOwn(longCategories, plain) ? longCategories[plain] : undefined
  if (long !== undefined) return category(long)
  if (plain === 'whitespace' || plain === 'space') return whiteSpace
  const script = scripts.find((known) => known.toLowerCase() === plain)
  return script === undefined ? null : scriptSet(script)
}

/** A set with all that differs from its members by case only. Throws RegexRefused where that is not one for one. */
export function foldedSet(set: CodePointSet): CodePointSet {
  // A negated class folds as what it leaves out does.
  const negated = set.has(0x10ffff)
  const base = negated ? set.complement() : set
  if (base.size > maxFolded) throw new RegexRefused('so large a class without regard to case')
  const points = new Set<number>()
  for (const [from, to] of base.ranges()) for (let point = from; point < to; point++) for (const variant of variants(point)) points.add(variant)
  const folded = CodePointSet.points(...points)
  return negated ? folded.complement() : folded
}

/** A code point with all that differ from it by case only. */
function variants(point: number): number[] {
  const text = String.fromCodePoint(point)
  const found = [point]
  for (const other of [text.toLowerCase(), text.toUpperCase(), text.toUpperCase().toLowerCase()]) {
    const code = other.codePointAt(0)!
    if (String.fromCodePoint(code) !== other) throw new RegexRefused(`"${text}" without regard to case`)
    found.push(code)
  }
  // The long s, the Kelvin and the Angstrom sign have no way back from their letters.
  const signs: Readonly<Record<string, number>> = { s: 0x17f, k: 0x212a, å: 0x212b }
  const sign = signs[text.toLowerCase()] ?? signs[text.toUpperCase().toLowerCase()]
  if (sign !== undefined) found.push(sign, ...Array.from(text.toUpperCase() + text.toUpperCase().toLowerCase(), (c) => c.codePointAt(0)!))
  return found
}

const scriptSets = new Map<string, CodePointSet>()

function scriptSet(name: string): CodePointSet {
  const known = scriptSets.get(name)
  if (known !== undefined) return known
  const pattern = new RegExp(`\\p{Script=${name}}+`, 'gu')
  const ranges: [number, number][] = []
  for (let plane = 0; plane <= 3; plane++) {
    for (let block = plane * 0x10000; block < (plane + 1) * 0x10000; block += 0x1000) {
      if (block >= 0xd800 && block < 0xe000) continue
      const points = Array.from({ length: 0x1000 }, (_, i) => (block + i >= 0xd800 && block + i < 0xe000 ? 0x20 : block + i))
      for (const { 0: run, index } of String.fromCodePoint(...points).matchAll(pattern)) {
        const from = block + (block < 0x10000 ? index : index / 2)
        ranges.push([from, from + Array.from(run).length])
      }
    }
  }
  // A younger Node knows characters that the regex engine does not.
  const set = CodePointSet.of(ranges).minus(category('C')!)
  scriptSets.set(name, set)
  return set
}
