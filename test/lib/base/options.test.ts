// Options declared once: defaults, ranges, text from a command line, and messages that name the flag.
import test from 'ava'

import { UsageError } from '../../../lib/base/errors.js'
import { flagName, givenInVain, needing, option, resolveOptions } from '../../../lib/base/options.js'

const table = {
  modelName: option.requiredText('the model'),
  dataPath: option.requiredTexts('the data'),
  note: option.optionalText('a note'),
  title: option.text('none', 'a title'),
  stop: option.texts('stops'),
  steps: option.integer(4, 'steps', { min: 1, max: 9 }),
  limit: option.optionalInteger('a limit', { min: 2 }),
  rate: option.number(0.5, 'a rate', { min: 0 }),
  quiet: option.flag(false, 'say nothing'),
  kind: option.choice('a', ['a', 'b'], 'a kind'),
  dropout: option.later(0, 'more features', [0, 'None']),
}
const given = { modelName: 'm', dataPath: ['d'] }
const resolve = (more: Record<string, unknown>) => resolveOptions('train', table, { ...given, ...more })

test('defaults fill in what is not given', (t) => {
  t.deepEqual(resolve({ steps: undefined }), {
    modelName: 'm', dataPath: ['d'], note: null, title: 'none', stop: [], steps: 4, limit: null, rate: 0.5, quiet: false, kind: 'a', dropout: 0,
  })
})

test('values from a program and words from a command line are the same', (t) => {
  const typed = { note: 'x', title: 'T', stop: ['s'], steps: 2, limit: 7, rate: 1e-3, quiet: true, kind: 'b', dropout: 0 }
  t.deepEqual(resolve(typed), resolve({ ...typed, stop: 's', steps: '2', limit: '7', rate: '1e-3', quiet: 'true', dropout: 'None' }))
  t.deepEqual(resolve({ dataPath: 'one' }).dataPath, ['one'])
  t.is(resolve({ quiet: 'false' }).quiet, false)
  t.is(resolve({ note: null, limit: null }).limit, null)
})

test('wrong values name the flag, what it takes and what came', (t) => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ steps: 0 }, /^\[--steps\] expected a whole number of at least 1 and at most 9, received 0\./],
    [{ steps: 10 }, /--steps.*received 10/],
    [{ steps: 1.5 }, /--steps.*a whole number/],
    [{ steps: 'many' }, /--steps.*received "many"/],
    [{ steps: '' }, /--steps.*received ""/],
    [{ steps: ' ' }, /--steps/],
    [{ steps: null }, /--steps.*received null/],
    [{ limit: 1 }, /--limit.*at least 2, received 1/],
    [{ rate: -1 }, /--rate.*a number of at least 0, received -1/],
    [{ rate: NaN }, /--rate/],
    [{ rate: Infinity }, /--rate/],
    [{ rate: 'NaN' }, /--rate/],
    [{ quiet: 'maybe' }, /--quiet.*true or false, received "maybe"/],
    [{ kind: 'c' }, /--kind.*one of a, b, received "c"/],
    [{ title: '' }, /--title.*text, received ""/],
    [{ title: 5 }, /--title.*received 5/],
    [{ modelName: null }, /--model-name.*text, received null/],
    [{ stop: [''] }, /--stop.*a list of texts/],
    [{ dataPath: [1] }, /--data-path.*a list of texts/],
    [{ dropout: 0.1 }, /--dropout.*0 or None in this version, received 0.1.*comes with more features/],
  ]
  for (const [values, message] of wrong) t.throws(() => resolve(values), { instanceOf: UsageError, message })
})

test('unknown and missing options are refused by their flag', (t) => {
  t.throws(() => resolve({ maxStep: 1 }), { instanceOf: UsageError, message: /^\[train\] expected options it knows, received --max-step\. Try threefold train --help/ })
  t.throws(() => resolveOptions('train', table, { dataPath: ['d'] }), { instanceOf: UsageError, message: /--model-name \(the model\), received none/ })
})

test('flags are kebab-case', (t) => {
  t.is(flagName('maxSeqLen'), '--max-seq-len')
  t.is(flagName('computeFp32Loss'), '--compute-fp32-loss')
  t.is(flagName('seed'), '--seed')
})

test('what is given in vain is named, defaults and what is on are not', (t) => {
  const table = { loraDim: option.integer(0, 'rank'), names: option.texts('names'), ...needing(['loraDim', 'names'], { loraAlpha: option.number(0, 'alpha'), only: option.flag(false, 'only') }) }
  const said = (given: Record<string, unknown>): string | null => givenInVain(table, given, resolveOptions('sft', table, given))
  t.is(said({}), null)
  t.is(said({ loraAlpha: '0.0', only: 'false' }), null, 'defaults')
  t.is(said({ loraAlpha: '2', only: true }), '--lora-alpha changes nothing without --lora-dim or --names; --only changes nothing without --lora-dim or --names')
  t.is(said({ loraAlpha: 2, loraDim: 4 }), null)
  t.is(said({ loraAlpha: 2, names: ['a'] }), null)
})
