import test from 'ava'
import fc from 'fast-check'

import { objectMembers } from '../../../lib/base/json.js'
import { ConfigText } from '../../../lib/checkpoint/configText.js'
import { failsWith } from '../data/support.js'

test('what is not changed keeps its spelling: 5.0 stays a float, 1e-05 its exponent', (t) => {
  const text = '{\n  "model_type": "gemma2", "cap": 5.0,\n  "eps" : 1e-05 , "big": 12345678901234567890,\n  "rope": {"factor": 2.0, "note": "a } , \\" b"}, "list": [1.0, [2, "]"]], "gone": 1\n}'
  const config = ConfigText.parse(text, 'config.json').with({ gone: undefined, dtype: 'bfloat16', cap2: null, rope2: { a: 1 } })
  t.is(
    config.toString(),
    '{\n  "model_type": "gemma2",\n  "cap": 5.0,\n  "eps": 1e-05,\n  "big": 12345678901234567890,\n  "rope": {"factor": 2.0, "note": "a } , \\" b"},\n  "list": [1.0, [2, "]"]],\n  "dtype": "bfloat16",\n  "cap2": null,\n  "rope2": {\n    "a": 1\n  }\n}\n',
  )
  t.deepEqual(config.json, JSON.parse(config.toString()))
  t.is(ConfigText.of({}).toString().replaceAll(/\s/g, ''), '{}')
})

test('any object is taken apart and put together again', (t) => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      const text = JSON.stringify(value, null, space)
      const json = JSON.parse(text) as Record<string, unknown>
      t.deepEqual(Object.fromEntries(Array.from(objectMembers(` ${text} `), ([name, part]): [string, unknown] => [name, JSON.parse(part)])), Object.fromEntries(Object.entries(json)))
      t.deepEqual(JSON.parse(ConfigText.parse(text, 'x').toString()), json)
    }),
  )
  t.is(objectMembers('{"a": 1, "a": 2}').get('a'), '2', 'the last of a name counts, as in JSON.parse')
})

test('what is no object is refused with the file', async (t) => {
  await failsWith(t, () => ConfigText.parse('[1]', 'some/config.json'), 'a JSON object in some/config.json')
  await failsWith(t, () => ConfigText.parse('{"a": }', 'some/config.json'), 'some/config.json line 1 column 7')
})
