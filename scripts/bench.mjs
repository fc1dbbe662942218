// Builds the kernel benchmarks (bench/kernels) and runs them with the arguments given.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { buildTarget, root, stop } from './native.mjs'

if (!existsSync(join(root, 'bench', 'kernels'))) stop('bench', 'benchmarks in bench/kernels', 'none', 'a checkout of the repository')
const done = spawnSync(await buildTarget('bench_matmul', 'build-tests'), process.argv.slice(2), { cwd: root, stdio: 'inherit' })
process.exitCode = done.status ?? 1
