// The paged cache's bookkeeping: pages are handed out once, come back, and run out with a clear error.
import test from 'ava'
import fc from 'fast-check'

import { KvCache } from '../../../lib/rollout/kvCache.js'
import { createDevice } from '../device.js'
import { freshModel } from '../contracts/support.js'

test('pages cover the tokens, slots are distinct, released pages are used again', async (t) => {
  using device = createDevice({ threads: 1 })
  using model = await freshModel(device, 'tiny')
  const cache = new KvCache(model.decoder, 6, 4)
  t.deepEqual(cache.tensors.keys.map((k) => k.shape), [[6, 4, 4, 8], [6, 4, 4, 8]])
  t.deepEqual([0, 1, 4, 5, 9].map((n) => cache.pagesFor(n)), [0, 1, 1, 2, 3])
  const [a, b]: [number[], number[]] = [[], []]
  cache.reserve(a, 9)
  cache.reserve(b, 4)
  cache.reserve(a, 9)
  t.is(a.length, 3)
  t.is(b.length, 1)
  t.is(cache.freePages, 2)
  const slots = [...Array.from({ length: 9 }, (_, i) => cache.slot(a, i)), ...Array.from({ length: 4 }, (_, i) => cache.slot(b, i))]
  t.is(new Set(slots).size, 13)
  t.true(slots.every((s) => s >= 0 && s < 24))
  t.is(cache.slot(a, 5), a[1]! * 4 + 1)
  const pages = [...a]
  cache.release(a)
  t.deepEqual(a, [])
  t.is(cache.freePages, 5)
  const c: number[] = []
  cache.reserve(c, 12)
  t.deepEqual(c, pages, 'the same pages again')
  t.throws(() => cache.reserve(b, 17), { message: /\[rollout\] expected room for 17 tokens in the KV cache, received none of 6 pages free/ })
  cache.dispose()
  t.true(cache.tensors.values.every((v) => v.disposed))
})

test('no page has two owners, however sequences come and go', async (t) => {
  using device = createDevice({ threads: 1 })
  using model = await freshModel(device, 'tiny')
  const found = fc.check(
    fc.property(fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 20 }), fc.boolean()), { maxLength: 40 }), (events) => {
      const cache = new KvCache(model.decoder, 40, 3)
      const tables: number[][] = [[], [], [], []]
      for (const [who, tokens, leave] of events) {
        if (leave) cache.release(tables[who]!)
        else cache.reserve(tables[who]!, tokens)
        const held = tables.flat()
        if (new Set(held).size !== held.length || held.length + cache.freePages !== 40) return false
      }
      cache.dispose()
      return true
    }),
    { numRuns: 50 },
  )
  t.false(found.failed, JSON.stringify(found.counterexample))
})
