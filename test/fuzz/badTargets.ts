// Readers that misbehave on one input in five, each in its way: the harness has to catch every one of them.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fail } from '../../lib/base/errors.js'
import type { FuzzTarget } from './target.js'

/** Which inputs are bad, for the test to know which ones must be found. */
export function isBad(bytes: Uint8Array): boolean {
  return bytes.reduce((sum, byte) => sum + byte, 0) % 5 === 4
}

function badTarget(name: string, misbehave: (file: string) => unknown): FuzzTarget {
  return {
    name,
    seeds: () => Promise.resolve([new Map([['seed.bin', new Uint8Array(20)], ['beside.txt', new Uint8Array(3)]])]),
    read: async (file) => (isBad(await readFile(file)) ? misbehave(file) : null),
  }
}

const kept: Buffer[] = []

export const targets: readonly FuzzTarget[] = [
  badTarget('crash', () => process.abort()),
  badTarget('exit', () => process.exit(0)),
  badTarget('hang', () => {
    for (;;);
  }),
  badTarget('wait', () => sleep(1e9)),
  badTarget('wrong error', () => {
    throw new RangeError('out of range')
  }),
  badTarget('no file named', () => fail('reader', 'a better file', 'this one', 'another one')),
  // Given back before the call returns, so only the peak shows it.
  badTarget('short hog', () => Buffer.alloc(60 << 20, 1)[5]),
  badTarget('hog', async () => {
    for (;;) {
      kept.push(Buffer.alloc(8 << 20, 1))
      await sleep(5)
    }
  }),
  // Names its file as it should.
  badTarget('good', (file) => fail('reader', `a better ${path.basename(file)}`, 'this one', 'another one')),
]
