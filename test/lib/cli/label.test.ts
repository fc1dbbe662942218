// `label` from the command line: lines over a pipe, keys of a terminal, what is on the screen; `eval` as a command.
import { spawn } from 'node:child_process'
import { appendFile, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import type { ReadStream } from 'node:tty'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Interrupts } from '../../../lib/cli/interrupts.js'
import { commandOf, labelInput } from '../../../lib/cli/labelInput.js'
import { labelScreen, wrap } from '../../../lib/cli/labelScreen.js'
import { reward } from '../../../lib/index.js'
import { folder, jsonl, parsed, threefold } from './support.js'
import { makeModel } from '../stages/support.js'

const rows = Array.from({ length: 6 }, (_, i) => ({ prompt: `question ${i}`, responses: [`first ${i}`, `second ${i}`], models: ['m', 'n'] }))

async function desk(t: ExecutionContext): Promise<{ dir: string; input: string; output: string; args: (labeler: string) => string[] }> {
  const dir = await folder(t)
  const input = await jsonl(join(dir, 'samples.jsonl'), rows)
  const output = join(dir, 'labels.jsonl')
  return { dir, input, output, args: (labeler) => ['label', '--input', input, '--output', output, '--labeler', labeler] }
}

test('over a pipe: a choice each line, resumed where it ended, read by the reward stage', async (t) => {
  const { dir, output, args } = await desk(t)
  const first = await threefold(args('ann'), { input: 'l\nwhat\nRIGHT\ns\nu\nt\nq\nl\n' })
  t.is(first.status, 0, first.stderr)
  t.is(first.stdout, `3 rows labelled, 3 left: ${output}\n`)
  t.regex(first.stderr, /no such choice: "what"; l or left arrow/)
  t.is((await readFile(output, 'utf8')).split('\n').length - 1, 3)
  await appendFile(output, '{"prompt": "quest')
  const second = await threefold([...args('ann'), '--json', '--quiet'], { input: 'b\n1\n2\n' })
  t.is(second.stderr, '')
  t.deepEqual(JSON.parse(second.stdout), { labelled: 3, before: 3, left: 0, choices: { 'both-bad': 1, left: 1, right: 1 }, output })
  const third = await threefold(args('ann'), { input: 'l\n' })
  t.regex(third.stdout, /^0 rows labelled, 6 before, 0 left/)
  const other = await threefold(args('bob'), { input: 'l\nl\n' })
  t.regex(other.stdout, /^2 rows labelled, 4 left/)

  const lines = parsed(await readFile(output, 'utf8'))
  t.deepEqual(lines.map((l) => l['choice']), ['left', 'right', 'tie', 'both-bad', 'left', 'right', 'left', 'left'])
  t.deepEqual(lines.map((l) => l['prompt']), [0, 1, 2, 3, 4, 5, 0, 1].map((i) => `question ${i}`))
  for (const { prompt, choice, order, chosen, rejected } of lines) {
    if (choice === 'both-bad') continue
    const { responses } = rows.find((r) => r.prompt === prompt)!
    const sides = (order as number[]).map((i) => responses[i]!)
    t.deepEqual([chosen, rejected], choice === 'right' ? [sides[1], sides[0]] : sides, 'what stood where is told')
  }
  // the screen showed the sides in that order
  const shown = /LEFT +\| RIGHT\n(\w+ 0) +\| (\w+ 0)\n/.exec(first.stderr)!
  t.deepEqual([shown[1], shown[2]], [lines[0]!['chosen'], lines[0]!['rejected']])
  t.false(first.stderr.includes('"m"'), 'the labeler does not see which model it was')

  const agreed = await threefold(['label', '--agreement', output])
  t.regex(agreed.stdout, /^labelers +rows of both +agreement +Cohen's kappa\nann, bob +2 /)
  const json = JSON.parse((await threefold(['label', '--agreement', output, '--json'])).stdout) as { pairs: object[] }
  t.like(json.pairs[0], { labelers: ['ann', 'bob'], rows: 2 })

  const result = await reward({ modelNameOrPath: await makeModel(dir), dataPath: [output], maxSeqLen: 48, perDeviceTrainBatchSize: 4, outputDir: join(dir, 'rm'), threads: 1 })
  t.truthy(result.model)
})

test('wrong use of label', async (t) => {
  const { dir, input, output } = await desk(t)
  const refused = async (args: string[], status: number, words: RegExp): Promise<void> => {
    const ended = await threefold(['label', ...args], { input: 'l\n' })
    t.is(ended.status, status, ended.stderr)
    t.regex(ended.stderr, words)
  }
  await refused([], 2, /\[label\] expected --input, --output and --labeler \(or --agreement\), received no --input/)
  await refused(['--input', input, '--output', output], 2, /received no --labeler/)
  await refused(['--input', input, '--output', join(dir, 'labels.json'), '--labeler', 'a'], 2, /\[--output\] expected a name that ends in \.jsonl/)
  await refused(['--input', input, '--output', input, '--labeler', 'a'], 2, /\[--output\] expected a file of its own/)
  await refused(['--agreement', output, '--labeler', 'a'], 2, /\[--agreement\] expected files of labels and nothing else, received --labeler beside them/)
  await refused(['--input', join(dir, 'none.jsonl'), '--output', output, '--labeler', 'a'], 1, /ENOENT/)
  await refused(['--input', await jsonl(join(dir, 'one.jsonl'), [{ prompt: 'p', responses: ['a'] }]), '--output', output, '--labeler', 'a'], 1, /one\.jsonl line 1, received 1 of them/)
  t.deepEqual((await readdir(dir)).sort(), ['one.jsonl', 'samples.jsonl'])
})

test('Ctrl-C while a choice is waited for: exit 130, every label kept', async (t) => {
  const { output, args } = await desk(t)
  const child = spawn(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', ...args('ann')], { env: { ...process.env, NODE_OPTIONS: '' } })
  let shown = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    shown += text
    if (text.includes('3 of 6')) child.kill('SIGINT')
  })
  child.stdin.write('l\nr\n')
  const status = await new Promise((resolve) => child.on('close', resolve))
  t.is(status, 130)
  t.true(shown.endsWith(`stopped; what was done so far is in ${output}\n`), shown)
  t.is(parsed(await readFile(output, 'utf8')).length, 2)
})

/** A terminal: bytes in, raw mode seen. */
function terminal(): { stdin: ReadStream; type: (keys: string) => void; raw: boolean[] } {
  const raw: boolean[] = []
  const stream = new PassThrough()
  const stdin = Object.assign(stream, { isTTY: true, setRawMode: (on: boolean) => (raw.push(on), stdin) }) as unknown as ReadStream
  return { stdin, type: (keys) => void stream.write(keys), raw }
}

test('keys of a terminal: arrows and letters, Ctrl-C and Ctrl-D, raw mode given back', async (t) => {
  const { stdin, type, raw } = terminal()
  const interrupts = new Interrupts()
  const keys = labelInput(stdin, interrupts)
  const press = async (bytes: string): Promise<string | null> => {
    const next = keys.next()
    type(bytes)
    return next
  }
  const commands: (string | null)[] = []
  for (const bytes of ['\x1b[D', '\x1b[C', '\x1b[B', '\x1bOD', 'l', 'R', '=', '1', 'b', 's', 'u', '\x7f', 'q', 'x', '\r']) commands.push(commandOf((await press(bytes))!))
  t.deepEqual(commands, ['left', 'right', 'tie', 'left', 'left', 'right', 'tie', 'left', 'both-bad', 'skip', 'back', 'back', 'quit', null, null])
  type('l')
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.is(await press('r'), 'r', 'a key before the next answer is shown does not count')
  t.false(interrupts.signal.aborted)
  t.is(await press('\x03'), null)
  t.true(interrupts.signal.aborted)
  t.is(await keys.next(), null)
  keys[Symbol.dispose]()
  t.deepEqual(raw, [true, false])

  const other = terminal()
  const ended = labelInput(other.stdin, new Interrupts())
  const next = ended.next()
  other.type('\x04')
  t.is(await next, null)
  ended[Symbol.dispose]()
})

test('the screen: side by side where there is room; no text moves the cursor', (t) => {
  const left = 'one two three four five six seven eight nine ten'
  const screen = labelScreen('1 of 2', 'a\x1b[2Jb', left, '你好'.repeat(30), 80)
  t.true(screen.includes('a␛[2Jb'))
  t.notRegex(screen, /[\u0000-\u0009\u000b-\u001f]/)
  const lines = screen.split('\n').filter((line) => line.includes(' | '))
  t.true(lines.length > 2)
  for (const line of lines) t.is([...line.slice(0, line.indexOf(' | '))].length, 38)
  t.true(labelScreen('1 of 2', 'p', left, 'x', 60).includes('LEFT\none two'), 'below each other')

  t.deepEqual(wrap('one two three', 7), ['one two', 'three'])
  t.deepEqual(wrap('abcdefghij', 4), ['abcd', 'efgh', 'ij'])
  t.deepEqual(wrap('你好吗', 4), ['你好', '吗'])
  t.deepEqual(wrap('a\n\nb', 4), ['a', '', 'b'])
  t.deepEqual(wrap('', 4), [''])
  t.is(wrap(left, 9).join(' '), left, 'nothing is lost')
})
