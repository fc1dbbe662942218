// Event files against TensorBoard's own writer (test/oracle/tensorboard_events.py) and a reader of their formats.
import { appendFile, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { crc32c } from '../../../lib/base/crc32c.js'
import type { EventsWritten } from '../../../lib/base/tensorboard.js'
import { TensorboardEvents } from '../../../lib/base/tensorboard.js'
import { failsWith, temporaryFolder } from '../data/support.js'
import { readEvents, shownScalars } from './eventFile.js'

test('the check value of CRC-32C, and those of RFC 3720', (t) => {
  t.is(crc32c(Buffer.from('123456789')), 0xe3069283)
  t.is(crc32c(Buffer.alloc(32)), 0x8a9136aa)
  t.is(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43)
})

test.serial("the bytes are those of TensorBoard's writer", async (t) => {
  const folder = await temporaryFolder(t)
  const time = 1700000000.25
  const now = Date.now
  t.teardown(() => void (Date.now = now))
  Date.now = () => time * 1000
  const events = await TensorboardEvents.open(folder, 'sft', 7, null)
  events.write(7, time + 1, { loss: 0.1, 'eval/loss': -3.5e-20 })
  events.write(128, time + 2.5, Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`objective/metric_${i}`, i / 7])))
  events.write(5_000_000_000, time + 1e6, { größe: 1e30 })
  await events.close()
  const [name] = await readdir(folder)
  t.regex(name!, /^events\.out\.tfevents\.1700000000\..*\.sft\.0000$/)
  const bytes = await readFile(join(folder, name!))
  const theirs = await readFile(new URL('../../fixtures/tensorboard.events', import.meta.url))
  t.deepEqual(bytes, theirs)
  t.is(readEvents(theirs)[1]!.step, 7)
  for (const at of [3, 20, bytes.length - 1]) {
    const altered = Buffer.from(bytes)
    altered[at]! ^= 1
    t.throws(() => readEvents(altered), undefined, `the reader of these tests sees a changed byte ${at}`)
  }
})

test('what is no finite number is left out, and a line without one is none', async (t) => {
  const folder = await temporaryFolder(t)
  const events = await TensorboardEvents.open(folder, 'ppo', 0, null)
  events.write(1, 10, { loss: NaN, gap: null, name: 'x', on: true })
  events.write(2, 11, { loss: Infinity, rate: 0.5 })
  await events.close()
  t.deepEqual(await shownScalars(folder), [{ time: 11, step: 2, scalars: { rate: 0.5 } }])
})

test('a run that goes on twice shows each step once', async (t) => {
  const folder = await temporaryFolder(t)
  const steps = async (first: number, last: number, before: EventsWritten | null): Promise<TensorboardEvents> => {
    const events = await TensorboardEvents.open(folder, 'sft', first, before)
    for (let step = first; step <= last; step++) events.write(step, 100 * first + step, { loss: step })
    return events
  }
  const one = await steps(0, 4, null)
  const atFour = one.written
  one.write(4, 0, { 'eval/loss': 9 })
  one.write(5, 0, { loss: 55 })
  await one.close()
  await appendFile(join(folder, atFour.file), 'torn')
  const two = await steps(5, 6, atFour)
  await two.close()
  // goes on from the same checkpoint again: the second file is gone
  const three = await steps(5, 7, atFour)
  await three.close()
  const shown = await shownScalars(folder)
  t.deepEqual(shown.map((e) => [e.step, e.time, e.scalars!['loss']]), [0, 1, 2, 3, 4].map((s) => [s, s, s]).concat([5, 6, 7].map((s) => [s, 500 + s, s])))
  const names = (await readdir(folder)).sort()
  t.deepEqual(names.map((n) => n.slice(-4)), ['0000', '0002'], 'never a name that a reader knows already')
  // another run in the same folder takes the place of the first
  await (await TensorboardEvents.open(folder, 'zzz', 0, null)).close()
  t.deepEqual(await shownScalars(folder), [])
})

test('a folder that cannot be written is refused', async (t) => {
  await failsWith(t, () => TensorboardEvents.open('/dev/null/events', 'sft', 0, null), 'a folder that can be written at /dev/null/events')
})
