import { readFileSync } from 'node:fs'

import test from 'ava'

import { Interrupted, ThreefoldError, UsageError, asThreefoldError, fail } from '../../../lib/base/errors.js'

test('one shape, for people and for --json', (t) => {
  const error = t.throws(() => fail('data', 'a row', 'nothing', 'another file'), { instanceOf: ThreefoldError })
  t.is(error.message, '[data] expected a row, received nothing. Try another file.')
  t.is(error.code, 'THREEFOLD')
  t.is(JSON.stringify(error), '{"error":{"where":"data","expected":"a row","received":"nothing","try":"another file"}}')
})

test('wrong usage and an interrupt are told apart', (t) => {
  const usage = new UsageError('cli', 'a flag', '--flog', '--help')
  t.true(usage instanceof ThreefoldError)
  t.is(usage.code, 'USAGE')
  t.false(new Interrupted(null) instanceof ThreefoldError)
  t.regex(new Interrupted('runs/a').message, /runs\/a/)
})

test('foreign errors are put in the same shape', (t) => {
  const own = new UsageError('cli', 'a', 'b', 'c')
  t.is(asThreefoldError(own, 'elsewhere'), own)

  const system = asThreefoldError(t.throws(() => readFileSync('no/such/file')), 'config')
  t.is(system.where, 'config')
  t.regex(system.received, /no\/such\/file/)
  t.is(system.cure, 'checking the path')

  for (const odd of ['text', 7, null, undefined]) t.is(asThreefoldError(odd, 'x').received, String(odd))
})
