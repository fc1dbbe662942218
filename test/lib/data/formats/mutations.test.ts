// Files that were damaged at random: a reader gives rows or one error that names the file, quickly and in little memory.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { ThreefoldError } from '../../../../lib/base/errors.js'
import { RandomSequence } from '../../../../lib/base/random.js'
import { target as csv } from '../../../fuzz/csv.js'
import { target as json } from '../../../fuzz/json.js'
import { target as jsonl } from '../../../fuzz/jsonl.js'
import { target as parquet } from '../../../fuzz/parquet.js'
import { temporaryFolder } from '../support.js'

const numbers = [-1, 0x7fffffff, -0x80000000, 0x10000000, 0]

/** One to three edits: a bit, a byte, four bytes, a cut, a piece left out or written twice. */
function damaged(whole: Uint8Array, random: RandomSequence): Buffer {
  let bytes = Buffer.from(whole)
  for (let edits = 1 + random.below(3); edits > 0 && bytes.length > 4; edits--) {
    // half of the edits go where a Parquet file has its footer
    const from = random.below(2) === 0 ? 0 : Math.max(0, bytes.length - 6000)
    const at = from + random.below(bytes.length - from)
    const kind = random.below(6)
    if (kind === 0) bytes[at]! ^= 1 << random.below(8)
    else if (kind === 1) bytes[at] = random.below(256)
    else if (kind === 2) bytes.writeInt32LE(numbers[random.below(5)]!, Math.min(at, bytes.length - 4))
    else if (kind === 3) bytes = bytes.subarray(0, at)
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.below(20))])
    else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random.below(at + 1), at)])
  }
  return bytes
}

for (const target of [jsonl, json, csv, parquet]) {
  test.serial(`${target.name}: 300 damaged files`, async (t) => {
    const folder = await temporaryFolder(t)
    const random = new RandomSequence(300, 0)
    const seeds = (await target.seeds()).map((files) => [...files][0]!)
    for (const [name, bytes] of seeds) {
      await writeFile(join(folder, name), bytes)
      await t.notThrowsAsync(() => target.read(join(folder, name)), `${name}, undamaged`)
    }
    let refused = 0
    for (let i = 0; i < 300; i++) {
      const [name, whole] = seeds[i % seeds.length]!
      const file = join(folder, `${i}-${name}`)
      const bytes = damaged(whole, random)
      await writeFile(file, bytes)
      const before = process.memoryUsage.rss()
      const started = performance.now()
      const error = await target.read(file).then(() => null, (e: unknown) => e)
      if (error !== null) {
        refused++
        t.true(error instanceof ThreefoldError && error.message.includes(name), `${i}: ${String(error)}`)
      }
      t.true(performance.now() - started < 5000, `${i}: ${performance.now() - started} ms`)
      t.true(process.memoryUsage.rss() - before < 64 * 2 ** 20 + 10 * bytes.length, `${i}: ${process.memoryUsage.rss() - before} bytes`)
    }
    t.true(refused > 100, `${refused} of 300 refused`)
  })
}
