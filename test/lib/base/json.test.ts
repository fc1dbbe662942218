import test from 'ava'
import fc from 'fast-check'
import { findJsonError } from '../../../lib/base/json.js'
import { holds } from '../property.js'

test('finds no error in any JSON', (t) => {
  holds(
    t,
    fc.property(
      fc.json(),
      fc.constantFrom(0, 1, 3),
      (text, indent) => findJsonError(JSON.stringify(JSON.parse(text), null, indent)) === null,
    ),
  )
})

test('finds an error exactly where JSON.parse refuses', (t) => {
  const broken = fc
    .tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.constantFrom('', ',', '}', ']', '"', ':', 'x', '0', '-', '\n', '\\', '\u0001'))
    .map(([text, at, piece]) => text.slice(0, at % (text.length + 1)) + piece + text.slice((at % (text.length + 1)) + 1))
  const refused = (text: string): boolean => {
    try {
      JSON.parse(text)
      return false
    } catch {
      return true
    }
  }
  holds(
    t,
    fc.property(broken, (text) => refused(text) === (findJsonError(text) !== null)),
    2000,
  )
})

test('names line, column and what should stand there', (t) => {
  t.like(findJsonError('{"a": x}'), { line: 1, column: 7, expected: 'a value' })
  t.like(findJsonError('{"a": 1,\n "b" 2}'), { line: 2, column: 6, expected: '":"' })
  t.like(findJsonError('[1, 2'), { line: 1, column: 6, expected: '"," or the closing bracket' })
  t.like(findJsonError('[1] 2'), { line: 1, column: 5, expected: 'nothing after the value' })
  t.like(findJsonError(''), { line: 1, column: 1 })
})
