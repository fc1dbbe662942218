// Mutated files through every reader, in small numbers (`npm run fuzz` runs large ones), and the harness against readers
// that misbehave.
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import fc from 'fast-check'
import { isBad, targets as badTargets } from '../fuzz/badTargets.js'
import { fuzz } from '../fuzz/harness.js'
import { fuzzHere, Inputs } from '../fuzz/loop.js'
import type { FuzzTarget } from '../fuzz/target.js'
import { targets } from '../fuzz/targets.js'
import { temporaryFolder } from './data/support.js'

for (const target of targets) {
  test(`10,000 mutated files are read or refused by name: ${target.name}`, async (t) => {
    const report = await fuzzHere(target, await temporaryFolder(t), { count: 10_000, seed: 2, maxMs: 5000 })
    t.deepEqual(report.failures.slice(0, 5), [])
    // Mutations that break everything, or nothing, would test little.
    t.true(report.accepted > 50 && report.refused > 5000, JSON.stringify(report))
  })
}

/** Bytes that mean something to one reader or another, and any others. */
const piece = fc.oneof(
  fc.uint8Array({ maxLength: 24 }),
  fc.string({ maxLength: 12 }).map((text) => Uint8Array.from(Buffer.from(text))),
  fc.constantFrom('{', '[', '"', '}}', '{{', '{%', 'null', '1e999', '-1', '\\ud800', '[[[[', 'c__main__\nx\n', '\u0000\u0000\u0000\u0080').map((text) => Uint8Array.from(Buffer.from(text))),
)

for (const target of targets) {
  test(`whatever stands in a file, it is read or refused by name: ${target.name}`, async (t) => {
    const inputs = await Inputs.lay(target, await temporaryFolder(t), 3)
    const property = fc.asyncProperty(fc.nat(1000), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(60), piece, async (which, share, remove, insert) => {
      const { problem, ms } = await inputs.run(inputs.spliced(which, share, remove, insert))
      return problem === null && ms < 5000
    })
    await t.notThrowsAsync(() => fc.assert(property, { numRuns: 400, seed: 5 }))
  })
}

const count = 12
const problems: Readonly<Record<string, RegExp>> = {
  crash: /^the process ended by SIGABRT$/,
  exit: /^the process ended by 0$/,
  hang: /^took more than 1500 ms$/,
  wait: /^took more than 1500 ms$/,
  'wrong error': /^threw RangeError: out of range/,
  'no file named': /^an error that does not name seed\.bin: \[reader\]/,
  'short hog': /^took \d+ bytes of memory, 33554432 are allowed$/,
  hog: /^took \d+ bytes of memory and went on$/,
}

/** The first seed that has one to three bad inputs: each costs a process or two. */
async function fewBad(t: ExecutionContext, target: FuzzTarget): Promise<{ seed: number; bytes: Uint8Array[]; bad: number[] }> {
  const folder = await temporaryFolder(t)
  for (let seed = 1; ; seed++) {
    const inputs = await Inputs.lay(target, folder, seed)
    const bytes = Array.from({ length: count }, (_, index) => inputs.make(index).bytes)
    const bad = [...bytes.keys()].filter((index) => isBad(bytes[index]!))
    if (bad.length >= 1 && bad.length <= 3) return { seed, bytes, bad }
  }
}

for (const target of badTargets) {
  test(`the harness finds the inputs at fault, and goes on: ${target.name}`, async (t) => {
    const folder = await temporaryFolder(t)
    const { seed, bytes, bad } = await fewBad(t, target)
    // Only the targets that hang are worth a short wait: on a busy machine anything may take a second.
    const hangMs = /^(hang|wait)$/.test(target.name) ? 1500 : 60_000
    const module = new URL('../fuzz/badTargets.ts', import.meta.url).href
    const report = await fuzz(target, { module, count, seed, folder, hangMs, memoryFloor: 32 << 20 })

    const expected = target.name === 'good' ? [] : bad
    t.deepEqual(report.failures.map(({ index }) => index), expected)
    t.is(report.accepted, count - bad.length)
    t.is(report.refused, target.name === 'good' ? bad.length : 0)
    for (const { index, problem, file } of report.failures) {
      t.regex(problem, problems[target.name]!)
      t.deepEqual(new Uint8Array(await readFile(file)), Uint8Array.from(bytes[index]!))
      t.deepEqual(await readdir(path.dirname(file)), ['beside.txt', 'seed.bin'])
    }
    t.is((await readdir(folder)).length, expected.length, 'nothing but the failing inputs stays')
  })
}

test('an input depends on seed, target and index alone', async (t) => {
  const folder = await temporaryFolder(t)
  const inputs = async (seed: number): Promise<string[]> => {
    const made = await Inputs.lay(targets[0]!, folder, seed)
    return Array.from({ length: 50 }, (_, index) => Buffer.from(made.make(index).bytes).toString('base64'))
  }
  const first = await inputs(1)
  t.deepEqual(await inputs(1), first)
  t.true(new Set([...first, ...(await inputs(2))]).size > 90)
})

test('a target whose own seed cannot be read does not start', async (t) => {
  const broken = { ...targets[0]!, seeds: () => Promise.resolve([new Map([['model.safetensors', new Uint8Array(3)]])]) }
  await t.throwsAsync(Inputs.lay(broken, await temporaryFolder(t), 1), { message: /at least 8 bytes/ })
})
