import { readFileSync } from 'node:fs'
import test from 'ava'
import type { PhiloxCounter, PhiloxKey } from '../../../lib/base/random.js'
import { philox, RandomSequence, seededShuffle, streamNumber, uniform } from '../../../lib/base/random.js'

const hex = (words: readonly number[]): string => words.map((word) => word.toString(16).padStart(8, '0')).join(' ')

// Published with Random123 (kat_vectors, philox4x32 10).
test('philox gives the published answers', (t) => {
  const ones = 0xffffffff
  t.is(hex(philox([0, 0, 0, 0], [0, 0])), '6627e8d5 e169c58d bc57ac4c 9b00dbd8')
  t.is(hex(philox([ones, ones, ones, ones], [ones, ones])), '408f276d 41c83b0e a20bc7c6 6d5451fd')
  t.is(
    hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  )
})

test('a shuffle is a permutation that depends on size, seed and stream alone', (t) => {
  for (const n of [0, 1, 2, 3, 100, 1001]) {
    const order = seededShuffle(n, 7, 1)
    t.deepEqual(
      [...order].sort((a, b) => a - b),
      Array.from({ length: n }, (_, index) => index),
    )
    t.deepEqual(order, seededShuffle(n, 7, 1))
  }
  t.notDeepEqual(seededShuffle(100, 7, 1), seededShuffle(100, 8, 1))
  t.notDeepEqual(seededShuffle(100, 7, 1), seededShuffle(100, 7, 2))
  t.notDeepEqual(seededShuffle(100, 2 ** 32, 1), seededShuffle(100, 0, 1), 'the high word of a seed counts')
})

test('every order of three comes up about equally often', (t) => {
  const seen = new Map<string, number>()
  for (let stream = 0; stream < 6000; stream++) {
    const order = seededShuffle(3, 1, stream).join()
    seen.set(order, (seen.get(order) ?? 0) + 1)
  }
  t.is(seen.size, 6)
  // 1000 expected, standard deviation 29.
  for (const count of seen.values()) t.true(Math.abs(count - 1000) < 150, String(count))
})

test('uniform reads one place of the sequence', (t) => {
  const stream = streamNumber(5, 3)
  const sequence = new RandomSequence(11, stream)
  for (let position = 0; position < 10; position++) {
    const value = sequence.uniform()
    t.is(value, uniform(11, stream, position))
    t.true(value >= 0 && value < 1)
  }
})

test('below stays below', (t) => {
  const sequence = new RandomSequence(1, 2)
  const seen = new Set(Array.from({ length: 200 }, () => sequence.below(5)))
  t.deepEqual([...seen].sort(), [0, 1, 2, 3, 4])
})

test('philox agrees with the fixture that the native half is checked against', (t) => {
  const file = new URL('../../fixtures/formulas/philox.json', import.meta.url)
  const { cases } = JSON.parse(readFileSync(file, 'utf8')) as {
    cases: { counter: PhiloxCounter; key: PhiloxKey; output: number[] }[]
  }
  t.true(cases.length >= 3)
  for (const { counter, key, output } of cases) t.deepEqual(philox(counter, key), output)
})
