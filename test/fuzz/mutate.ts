// Seeded mutations of valid files: bytes, integers, pieces, two files spliced, and the tokens of text.
import type { Random } from './random.js'

/** Mutated files stay small, so that 100,000 of them take minutes. */
export const maxBytes = 1 << 20

type Edit = (bytes: Buffer, random: Random, others: readonly Uint8Array[]) => Buffer

/** A seed with one edit (half of the time), or two to four: several in one file hide each other. */
export function mutate(seeds: readonly Uint8Array[], which: number, random: Random, text: boolean): Uint8Array {
  let bytes: Buffer = Buffer.from(seeds[which]!)
  const edits = random.below(2) === 0 ? 1 : 2 + random.below(3)
  for (let edit = 0; edit < edits; edit++) {
    const from = text && random.below(2) === 0 ? textEdits : byteEdits
    bytes = random.pick(from)(bytes, random, seeds)
  }
  return bytes.subarray(0, maxBytes)
}

/** A place of up to `longest` bytes: [begin, end). */
function stretch(bytes: Buffer, random: Random, longest: number): [begin: number, end: number] {
  const begin = random.below(bytes.length)
  return [begin, Math.min(bytes.length, begin + 1 + random.below(longest))]
}

function replace(bytes: Buffer, begin: number, end: number, by: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, begin), by, bytes.subarray(end)])
}

const oddBytes = [0, 1, 0x0a, 0x20, 0x22, 0x28, 0x2e, 0x5c, 0x7f, 0x80, 0xff]

/** Values at which sizes, signs and widths turn over. */
const oddIntegers = [0n, 1n, -1n, 1n << 15n, 1n << 16n, 1n << 31n, 1n << 32n, 1n << 53n, 1n << 63n].flatMap((value) => [
  value - 1n,
  value,
  value + 1n,
])

const byteEdits: readonly Edit[] = [
  function flipBits(bytes, random) {
    for (let count = 1 + random.below(8); count > 0 && bytes.length > 0; count--) {
      bytes[random.below(bytes.length)]! ^= 1 << random.below(8)
    }
    return bytes
  },
  function replaceBytes(bytes, random) {
    for (let count = 1 + random.below(8); count > 0 && bytes.length > 0; count--) {
      bytes[random.below(bytes.length)] = random.below(2) === 0 ? random.pick(oddBytes) : random.below(256)
    }
    return bytes
  },
  function truncate(bytes, random) {
    return bytes.subarray(0, random.below(2) === 0 ? random.below(bytes.length) : bytes.length - random.below(32))
  },
  function insert(bytes, random) {
    const at = random.below(bytes.length + 1)
    return replace(bytes, at, at, Uint8Array.from({ length: 1 + random.below(32) }, () => random.below(256)))
  },
  function remove(bytes, random) {
    return replace(bytes, ...stretch(bytes, random, 64), new Uint8Array(0))
  },
  function overwriteWithCopy(bytes, random) {
    const [begin, end] = stretch(bytes, random, 256)
    Buffer.from(bytes.subarray(begin, end)).copy(bytes, random.below(bytes.length))
    return bytes
  },
  function insertCopy(bytes, random) {
    const [begin, end] = stretch(bytes, random, 256)
    const at = random.below(bytes.length + 1)
    return replace(bytes, at, at, Buffer.from(bytes.subarray(begin, end)))
  },
  function swap(bytes, random) {
    const length = Math.min(1 + random.below(64), bytes.length >> 1)
    const [a, b] = [random.below(bytes.length - length + 1), random.below(bytes.length - length + 1)]
    const first = Buffer.from(bytes.subarray(a, a + length))
    bytes.copy(bytes, a, b, b + length)
    first.copy(bytes, b)
    return bytes
  },
  function overwriteInteger(bytes, random) {
    const width = random.pick([2, 4, 8])
    if (bytes.length < width) return bytes
    const value = random.below(8) === 0 ? BigInt(bytes.length + random.below(3) - 1) : random.pick(oddIntegers)
    const integer = Buffer.alloc(8)
    integer.writeBigUInt64LE(BigInt.asUintN(64, value))
    integer.copy(bytes, random.below(bytes.length - width + 1), 0, width)
    return bytes
  },
  function splice(bytes, random, others) {
    const other = random.pick(others)
    return Buffer.concat([bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1))])
  },
]

const oddNumbers = ['-1', '-0', '1e999', '-1e999', '1e-400', '0.5', '007', '9007199254740993', '18446744073709551616', '9'.repeat(400)]
const oddValues = ['null', 'true', '{}', '[]', '""', '"\\ud800"', '"\\u0000"', '"\\x"', '"__proto__"', '"constructor"', '\ufeff', '//']
const brackets = ['{', '}', '[', ']', '(', ')', '"', "'", ',', ':', '{{', '}}', '{%', '%}', '\n']

/** One token that the pattern finds, by another. Latin-1 keeps every byte. */
function replaceToken(bytes: Buffer, random: Random, pattern: RegExp, by: (token: string) => string): Buffer {
  const tokens = [...bytes.toString('latin1').matchAll(pattern)]
  if (tokens.length === 0) return bytes
  const token = random.pick(tokens)
  return replace(bytes, token.index, token.index + token[0].length, Buffer.from(by(token[0]), 'utf8'))
}

const punctuation = /[{}[\]()",:']/g
const number = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g
const string = /"(?:[^"\\\n]|\\.)*"/g

const textEdits: readonly Edit[] = [
  (bytes, random) => replaceToken(bytes, random, punctuation, () => ''),
  (bytes, random) => replaceToken(bytes, random, punctuation, (token) => token + token),
  (bytes, random) => replaceToken(bytes, random, punctuation, () => random.pick(brackets)),
  (bytes, random) => replaceToken(bytes, random, number, () => random.pick(oddNumbers)),
  (bytes, random) => replaceToken(bytes, random, number, (token) => String(Number(token) + random.below(3) - 1)),
  (bytes, random) => replaceToken(bytes, random, number, () => random.pick(oddValues)),
  (bytes, random) => replaceToken(bytes, random, string, () => random.pick(oddValues)),
  (bytes, random) => replaceToken(bytes, random, string, () => `"${'long '.repeat(1 + random.below(2000))}"`),
  function copyString(bytes, random) {
    const strings = bytes.toString('latin1').match(string) ?? ['""']
    return replaceToken(bytes, random, string, () => random.pick(strings))
  },
  function nestDeeply(bytes, random) {
    const depth = 1 + random.below(random.pick([10, 1000, 20_000]))
    const [open, close] = random.pick([['[', ']'], ['{"a":', '}'], ['(', ')']] as const)
    const inner = open === '{"a":' ? '1' : ''
    return replaceToken(bytes, random, random.pick([number, string]), () => open.repeat(depth) + inner + close.repeat(depth))
  },
  function leaveOpen(bytes, random) {
    const at = random.below(bytes.length + 1)
    return replace(bytes, at, at, Buffer.from(random.pick(brackets).repeat(1 + random.below(random.pick([4, 5000])))))
  },
]
