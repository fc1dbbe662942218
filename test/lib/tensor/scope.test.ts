// Scopes and the tape: what they own is disposed once, whatever happens.
import test from 'ava'

import { createDevice, fromFloats, readFloats } from '../device.js'
import type { Tensor } from '../device.js'
import { Scope, tensorScope } from '../../../lib/tensor/scope.js'
import { Tape } from '../../../lib/tensor/tape.js'

class Thing {
  disposals = 0
  dispose(): void {
    this.disposals++
  }
}

test('a scope frees what it owns, once, and not what was kept', (t) => {
  const [owned, kept] = [new Thing(), new Thing()]
  {
    using scope = new Scope()
    t.is(scope.own(owned), owned)
    scope.own(owned)
    scope.own(kept)
    t.is(scope.keep(kept), kept)
    t.is(owned.disposals, 0, 'not before its end')
  }
  t.is(owned.disposals, 1)
  t.is(kept.disposals, 0)
})

test('a scope that ends with an error frees too', async (t) => {
  const [here, there] = [new Thing(), new Thing()]
  t.throws(() => {
    using scope = new Scope()
    scope.own(here)
    throw new Error('boom')
  })
  await t.throwsAsync(
    tensorScope(async (scope) => {
      scope.own(there)
      await Promise.resolve()
      t.is(there.disposals, 0)
      throw new Error('boom')
    }),
    { message: 'boom' },
  )
  t.is(here.disposals, 1)
  t.is(there.disposals, 1)
  t.is(await tensorScope(() => 5), 5)
})

test('the tape runs backward in reverse, frees each gradient and what it saved', async (t) => {
  using device = createDevice({ threads: 1 })
  const number = (x: number): Tensor => fromFloats(device, Float32Array.of(x), [1])
  const seen: string[] = []
  const gradients: Tensor[] = []
  const saved = new Thing()
  const tape = new Tape()
  tape.save(saved)
  for (const name of ['embedding', 'layer', 'head'])
    tape.record((dout) => {
      seen.push(name)
      gradients.push(dout)
      return name === 'embedding' ? null : number(1)
    })
  const dout = number(1)
  t.deepEqual(await readFloats(dout), Float32Array.of(1))
  tape.backward(dout)
  t.deepEqual(seen, ['head', 'layer', 'embedding'])
  t.is(new Set(gradients).size, 3)
  t.true(gradients.every((g) => g.disposed))
  t.is(saved.disposals, 1)
  tape.backward(number(1))
  t.is(seen.length, 3, 'the tape is empty afterwards')
})

test('a step that throws leaves no gradient and nothing saved', (t) => {
  using device = createDevice({ threads: 1 })
  const tape = new Tape()
  const saved = new Thing()
  tape.save(saved)
  tape.record(() => {
    throw new Error('boom')
  })
  const dout = fromFloats(device, Float32Array.of(1), [1])
  t.throws(() => tape.backward(dout), { message: 'boom' })
  t.true(dout.disposed)
  t.is(saved.disposals, 1)
})

test('a tape that is never run backward frees what it saved', (t) => {
  const saved = new Thing()
  {
    using tape = new Tape()
    tape.save(saved)
  }
  t.is(saved.disposals, 1)
})
