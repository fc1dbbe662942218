// gpu-check itself: a part that fails in whatever way is seen to fail, by what it printed or by how it ended.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

interface Reading {
  figure?: string
  problem?: string
  result?: unknown
}
interface Result extends Reading {
  status: string
  seconds: number
}
interface Part {
  name: string
  limit: number
  command: string[]
  read: (stdout: string) => Reading
  skip?: () => string | null
}

const from = async <T>(file: string): Promise<T> => (await import(`../../bench/gpu/${file}`)) as T
const { runPart } = await from<{ runPart: (part: Part, context: { work: string; left: () => number }) => Promise<Result> }>('runPart.mjs')
const readings = await from<Record<'readTap' | 'readNativeTests' | 'readLadder' | 'readTorch' | 'readDemo', (stdout: string, ...rest: unknown[]) => Reading>>('readings.mjs')

const work = mkdtempSync(join(tmpdir(), 'threefold-gpu-check-'))
test.after.always(() => rmSync(work, { recursive: true }))

const part = (script: string, more: Partial<Part> = {}): Part => ({ name: 'part', limit: 60, command: [process.execPath, '-e', script], read: (stdout) => ({ figure: stdout.trim() }), ...more })
const run = (p: Part, left = 60): Promise<Result> => runPart(p, { work, left: () => left })

test.serial('a part that ends well has its figure, and its output in a log', async (t) => {
  const { status, figure } = await run(part('console.log("12 TFLOP/s")'))
  t.deepEqual({ status, figure }, { status: 'ok', figure: '12 TFLOP/s' })
  t.is(readFileSync(join(work, 'part.log'), 'utf8'), '12 TFLOP/s\n')
})

test.serial('a part fails by its exit status, by a signal, by its output and by its time, and says which', async (t) => {
  const cases: [Part, RegExp][] = [
    [part('console.log("half"); console.error("[matmul] expected a, received b. Try c."); process.exit(1)'), /^\[matmul\] expected a, received b\. Try c\.; half$/],
    [part('process.exit(3)'), /^exit status 3$/],
    [part('process.kill(process.pid, "SIGSEGV")'), /^ended by SIGSEGV$/],
    [part('console.log("x")', { read: () => ({ figure: 'x', problem: 'a gap of 0.1' }) }), /^a gap of 0\.1; x$/],
    [part('console.log("x")', { read: () => JSON.parse('x') as Reading }), /output that is not understood/],
    [part('', { command: [join(work, 'no-such-command')] }), /ENOENT/],
    [part('setInterval(() => undefined, 1000)', { limit: 5 }), /^stopped after 5 s$/],
  ]
  for (const [p, wanted] of cases) {
    const { status, figure } = await run(p)
    t.is(status, 'FAILED', String(wanted))
    t.regex(figure!, wanted)
  }
})

test.serial('a part without time left fails, one that has nothing to run on is skipped', async (t) => {
  t.like(await run(part('console.log(1)'), 2), { status: 'FAILED', figure: 'no time was left for it' })
  t.like(await run(part('console.log(1)', { skip: () => 'no torch' })), { status: 'skipped', figure: 'no torch' })
})

test.serial('failed, skipped and missing tests are problems', (t) => {
  const { readTap, readNativeTests } = readings
  t.is(readTap('ok 1 - a\nok 2 - b\n').problem, undefined)
  t.is(readTap('ok 1 - a\nnot ok 2 - b\nok 3 - c # SKIP\n').problem, 'b; c # SKIP')
  t.is(readTap('').problem, 'no test ran')
  t.is(readNativeTests('device NVIDIA H100\n3 passed, 0 failed\n').problem, undefined)
  t.is(readNativeTests('FAILED matmul (2 checks)\n  x.cc:1: y\n3 passed, 1 failed\n').problem, 'matmul')
  t.is(readNativeTests('[device] expected an NVIDIA GPU, received none. Try --device cpu.\n0 passed, 1 failed\n').problem, '[device] expected an NVIDIA GPU, received none. Try --device cpu.')
})

test.serial('a rung that failed is a problem; those of PyTorch stand beside ours', (t) => {
  const { readLadder, readTorch } = readings
  const rung = (kernel: string, more: object): string => JSON.stringify({ kernel, model: 'm', shape: 'n=1', ...more }) + '\n'
  const good = rung('copy', { seconds: 1, gbps: 2000, tflops: 0 }) + rung('matmul', { seconds: 2e-3, gbps: 1, tflops: 600 })
  t.deepEqual({ ...readLadder(good, work), result: 0 }, { figure: '2 rungs, copy 2,000 GB/s, matmul 600 TFLOP/s', problem: undefined, result: 0 })
  const about = JSON.stringify({ torch: '2.9' }) + '\n'
  t.regex(readTorch(about + rung('matmul', { seconds: 1e-3, how: 'F.linear' }), join(work, 'ladder.jsonl')).figure!, /1 rungs, median 0\.50 times as fast/)
  t.is(readTorch(about, join(work, 'ladder.jsonl')).problem, 'no rung in common with the ladder')
  t.is(readLadder(good + rung('adamw', { error: 'out of memory' }), work).problem, '1 rungs, first adamw: out of memory')
})

test.serial('a demo that has not learnt, or whose log-probs differ, is a problem', (t) => {
  const gold = (sft: number, ppo: number): string => JSON.stringify({ gold: { base: 0.1, sft, ppo }, seconds: 9 })
  const read = (stdout: string, gap: number, quick = false): string | undefined => {
    writeFileSync(join(folder, 'metrics.jsonl'), JSON.stringify({ 'rollout/logprob_gap_max': gap }) + '\n' + JSON.stringify({ 'rollout/logprob_gap_max': 0 }) + '\n')
    return readings.readDemo(stdout, work, quick).problem
  }
  const folder = join(work, 'demo', 'ppo')
  mkdirSync(folder, { recursive: true })
  t.is(read(gold(0.74, 0.92), 0), undefined)
  t.regex(read(gold(0.74, 0.8), 0)!, /less learnt/)
  t.is(read(gold(0, 0), 0, true), undefined)
  t.regex(read(gold(0.74, 0.92), 1e-7)!, /differ/)
  t.is(read(JSON.stringify({ error: { where: 'matmul', expected: 'a', received: 'b', try: 'c' } }), 0), '[matmul] expected a, received b. Try c.')
})
