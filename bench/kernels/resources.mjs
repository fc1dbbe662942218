// Registers, shared memory and spills of every CUDA kernel, as ptxas reports them: needs nvcc, no GPU.
//   node bench/kernels/resources.mjs [--out bench/results/kernels-ptxas.json]
// Shared memory that a launch asks for is not among it; bench/gpu measures what a GPU makes of it all.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

import { dropForeignCache, nvcc, root, run, stop } from '../../scripts/native.mjs'

const out = process.argv[process.argv.indexOf('--out') + 1] ?? ''
const compiler = nvcc() ?? stop('resources', 'nvcc', 'none', 'installing the CUDA toolkit')
const folder = 'build-resources'
dropForeignCache(folder)
run('cmake', ['-S', root, '-B', folder, '-DTHREEFOLD_ADDON=OFF', '-DTHREEFOLD_CUDA=ON', '-DTHREEFOLD_CUDA_REPORT=ON', `-DNVCC=${compiler}`])
// one after another: reports of two at a time would mix
const built = spawnSync('cmake', ['--build', folder, '--clean-first', '--target', 'threefold_cuda', '--parallel', '1'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 })
const text = built.stdout + built.stderr
if (built.status !== 0) stop('resources', 'the CUDA module to compile', text.split('\n').find((line) => line.includes('error')) ?? `exit status ${built.status}`, 'npm run build:cuda')

/** One entry for each kernel and architecture. */
const entries = []
for (const piece of text.split('ptxas info    : Compiling entry function ').slice(1)) {
  const [, mangled, arch] = /^'(\S+)' for '(\S+)'/.exec(piece)
  const number = (pattern) => Number(pattern.exec(piece)?.[1] ?? 0)
  entries.push({
    mangled,
    arch,
    registers: number(/Used (\d+) registers/),
    staticShared: number(/, (\d+) bytes smem/),
    stack: number(/(\d+) bytes stack frame/),
    spillStores: number(/(\d+) bytes spill stores/),
    spillLoads: number(/(\d+) bytes spill loads/),
  })
}
const names = spawnSync('c++filt', { input: entries.map((e) => e.mangled).join('\n'), encoding: 'utf8' }).stdout.trimEnd().split('\n')
const short = (name) => name.replace(/^void /, '').replace(/\(anonymous namespace\)::|threefold::(cuda::)?/g, '').replace(/\((?:int|bool|[\w:]+)\)(?=\d|-|true|false)/g, '').replace(/\(.*$/s, '')
const kernels = entries.map((entry, i) => ({ kernel: short(names[i]), ...entry, mangled: undefined })).sort((a, b) => a.kernel.localeCompare(b.kernel) || a.arch.localeCompare(b.arch))
const spilling = kernels.filter((k) => k.spillStores + k.spillLoads > 0)

const version = /release ([\d.]+)/.exec(spawnSync(compiler, ['--version'], { encoding: 'utf8' }).stdout)?.[1]
const lines = kernels.map((k) => '    ' + JSON.stringify(k)).join(',\n')
if (out) writeFileSync(out, `{\n  "command": "node bench/kernels/resources.mjs",\n  "nvcc": "${version}",\n  "spilling": ${spilling.length},\n  "kernels": [\n${lines}\n  ]\n}\n`)
for (const k of spilling) console.log(`spills ${k.spillStores} + ${k.spillLoads} bytes: ${k.kernel} ${k.arch}`)
console.log(`${kernels.length} kernels, most registers ${Math.max(...kernels.map((k) => k.registers))}, ${spilling.length} that spill`)
