// The parts of the check: what each runs and how long it may take. readings.mjs says what their output means.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { root, stop } from './library.mjs'
import { readDemo, readFacts, readLadder, readLargest, readNativeTests, readRealSize, readTap, readTorch } from './readings.mjs'

const node = (...words) => [process.execPath, ...words]

export function parts(context) {
  const { device, gpu, scale, work } = context
  const quick = scale === 'quick'
  const kind = device.split(':')[0]
  const module = join(root, 'build', 'Release', `threefold_${kind}.so`)
  if (!existsSync(join(root, 'bin', 'native_tests'))) stop('gpu-check', `an unpacked bundle at ${root}`, 'a folder without bin/native_tests', '`npm run gpu:bundle`, unpacking what it makes, and gpu-check there')
  context.commit = readFileSync(join(root, 'commit'), 'utf8').trim()
  const bench = (file, ...words) => node(join(root, 'bench', 'gpu', file), '--device', device, ...words)
  const size = (words) => [...words, '--scale', scale]

  return [
    { name: 'facts', limit: 60, command: bench('facts.mjs'), read: readFacts },
    {
      name: 'ops',
      together: true,
      limit: gpu ? 180 : 1800,
      command: [join(root, 'bin', 'native_tests')],
      env: { THREEFOLD_TEST_MODULE: module },
      read: readNativeTests,
    },
    {
      name: 'contracts',
      together: true,
      limit: gpu ? 180 : 1800,
      command: node(join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs'), '--tap', '--concurrency', gpu ? '4' : '2', 'test/lib/**/*.test.js'),
      env: { THREEFOLD_TEST_DEVICE: device },
      read: readTap,
    },
    {
      name: 'demo',
      together: true,
      limit: gpu ? 180 : 1800,
      // fp32 as on the CPU, whose figures it is held against
      command: node(join(root, 'lib', 'cli', 'main.js'), 'demo', '--device', device, '--dtype', 'fp32', '--output-dir', join(work, 'demo'), '--json', ...(quick ? ['--quick'] : [])),
      read: (stdout) => readDemo(stdout, work, quick),
    },
    {
      name: 'ladder',
      limit: gpu ? 100 : 900,
      command: [join(root, 'bin', 'bench_ladder'), '--module', module, ...(quick ? ['--quick'] : [])],
      read: (stdout) => readLadder(stdout, work),
    },
    {
      name: 'torch',
      limit: 90,
      skip: () => withoutTorch(work),
      command: ['python3', '-B', join(root, 'bench', 'peers', 'torch_ladder.py'), join(work, 'ladder.jsonl')],
      read: (stdout) => readTorch(stdout, join(work, 'ladder.jsonl')),
    },
    ...(quick ? [['quick', 'quick-critic']] : [['opt-125m', 'opt-125m'], ['opt-1.3b', 'opt-350m']]).map(([model, critic]) => ({
      name: model,
      limit: gpu ? 100 : 900,
      command: size(bench('realSize.mjs', '--model', model, '--critic', critic)),
      read: readRealSize,
    })),
    { name: 'largest', limit: gpu ? 120 : 900, command: size(bench('largest.mjs')), read: readLargest },
  ]
}

function withoutTorch(work) {
  if (!existsSync(join(work, 'ladder.jsonl'))) return 'the ladder, whose shapes it takes, has not run'
  const done = spawnSync('python3', ['-c', 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else 3)'], { stdio: 'ignore' })
  return done.status === 0 ? null : 'no python3 with a torch that has CUDA'
}
