// The progress line: in place on a terminal, now and then elsewhere, silent when asked.
import test from 'ava'

import { Progress, clock, short } from '../../../lib/base/progress.js'

function sink(isTTY: boolean, columns?: number) {
  const written: string[] = []
  return { written, output: { write: (text: string) => written.push(text), isTTY, ...(columns && { columns }) } }
}

test('clock and short numbers', (t) => {
  t.deepEqual([0, 59.4, 75, 3599.6, 3700, -5].map(clock), ['0:00', '0:59', '1:15', '1:00:00', '1:01:40', '0:00'])
  t.deepEqual([0, 2.31234, 123.4, 99999, 123456, 0.0001234, -0.5, NaN, Infinity].map(short), ['0.000', '2.312', '123', '99999', '1.23e+5', '1.23e-4', '-0.5000', 'NaN', 'Infinity'])
})

test('not on a terminal: whole lines, the first, few between, and the last', (t) => {
  const { written, output } = sink(false)
  const progress = new Progress(output)
  progress.start()
  for (let i = 1; i <= 50; i++) progress.update('sft', i, 50, [`loss ${i}`])
  t.is(written.length, 2, 'nothing between: it took no ten seconds')
  t.regex(written[0]!, /^sft 1\/50 {2}loss 1 .*left \d+:\d\d\n$/)
  t.regex(written[1]!, /^sft 50\/50 {2}loss 50 .*took \d+:\d\d\n$/)
  t.false(written.join('').includes('\r'))
})

test('on a terminal: one line rewritten in place, no longer than the terminal, ended by the last update', (t) => {
  const { written, output } = sink(true, 30)
  const progress = new Progress(output)
  progress.start()
  progress.update('sft', 1, 3, ['loss 2.5', 'a very long field that does not fit'])
  progress.update('sft', 2, 3, ['too soon'])
  progress.update('sft', 3, 3, ['loss 1.5'])
  t.is(written.length, 3)
  t.true(written[0]!.startsWith('\r\u001b[K') && !written[0]!.includes('\n'))
  t.is(written[0]!.length - '\r\u001b[K'.length, 29)
  t.true(written[1]!.includes('3/3'))
  t.is(written[2], '\n')
})

test('a note ends the live line first and stays', (t) => {
  const { written, output } = sink(true)
  const progress = new Progress(output)
  progress.note('before')
  progress.update('sft', 1, 9, [])
  progress.note('hello')
  t.is(written[0], 'before\n')
  t.deepEqual(written.slice(-2), ['\n', 'hello\n'])
})

test('quiet writes nothing at all', (t) => {
  const { written, output } = sink(true)
  const progress = new Progress(output, true)
  progress.start()
  progress.update('sft', 9, 9, ['loss'])
  progress.note('hello')
  t.deepEqual(written, [])
})

test('a run that goes on counts the time left by what was done since', async (t) => {
  const { written, output } = sink(true, 80)
  const progress = new Progress(output)
  progress.start(900)
  progress.update('sft', 900, 1000, [])
  t.false(written.join('').includes('left'), 'nothing is known yet')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  progress.update('sft', 901, 1000, [])
  const [, minutes, seconds] = /left (\d+):(\d\d)/.exec(written.join(''))!
  t.true(60 * Number(minutes) + Number(seconds) >= 99, 'a second for each of 99 steps, not for a thousand of them')
})
