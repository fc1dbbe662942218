// Asking for a device that cannot be had is one clear error each.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { backendPath, findBackend, packageRoot } from '../../../lib/binding/load.js'
import { native } from '../../../lib/binding/native.js'
import { createDevice } from '../../../lib/tensor/device.js'

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'threefold-devices-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

/** What a script of the library prints in a process of its own; an error as its one line. */
function inProcess(code: string, env: Record<string, string>): string {
  const script = `
    const { createDevice } = await import(${JSON.stringify(join(packageRoot, 'dist', 'tensor', 'device.js'))})
    try { ${code} } catch (error) { console.log(error.message) }`
  const done = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8', env: { ...process.env, ...env } })
  return done.stdout + done.stderr
}

test('cuda without its module names the command that builds it', (t) => {
  const error = t.throws(() => findBackend('cuda', scratch(t)), { instanceOf: ThreefoldError })
  t.is(error.expected, 'an addon with its CUDA module')
  t.regex(error.cure, /backend\.mjs cuda` \(it needs nvcc\), or --device cpu/)
})

test('a module of another build is refused', (t) => {
  const folder = scratch(t)
  const source = join(folder, 'module.c')
  writeFileSync(source, 'struct { const char* built_from; void* rest[2]; } module = {"another", {0, 0}};\nvoid* threefold_backend_module(void) { return &module; }\n')
  execFileSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'other.so'), source])
  const error = t.throws(() => native().backendDevices(join(folder, 'other.so')), { instanceOf: ThreefoldError })
  t.is(error.expected, 'a module built with this addon')
  writeFileSync(join(folder, 'torn.so'), 'not a library')
  t.throws(() => native().backendDevices(join(folder, 'torn.so')), { message: /^\[device\] expected the module .*torn\.so to load/ })
})

test('the emulated device is one, and its memory has an end', (t) => {
  t.throws(() => new (native().Device)({ kind: 'emulated', index: 1, module: findBackend('emulated') }), { message: /^\[device\] expected emulated, received emulated:1/ })
  using device = createDevice({ device: 'emulated', threads: 1 })
  t.is(device.stats().name, 'emulated')
  const code = `
    const device = createDevice({ device: 'emulated', threads: 1 })
    const kept = device.alloc({ dtype: 'fp32', shape: [1 << 20], category: 'parameters', zeroed: true })
    await kept.read()
    await device.alloc({ dtype: 'fp32', shape: [1 << 20], category: 'kvCache', zeroed: true }).read()`
  const printed = inProcess(code, { THREEFOLD_EMULATED_MEMORY: String(6 << 20) })
  t.regex(printed, /expected room for 4194304 more bytes of kvCache, received out of memory with 4\.0 MiB in use \(parameters 4\.0 MiB\)\. Try a smaller generation batch or shorter sequences\./)
  t.regex(inProcess("createDevice({ device: 'emulated' })", { THREEFOLD_EMULATED_ARCH: '70' }), /THREEFOLD_EMULATED_ARCH of 80 or 90, received 70/)
  t.regex(inProcess("createDevice({ device: 'emulated' })", { THREEFOLD_EMULATED_ORDER: 'sideways' }), /forward, reverse or a seed, received sideways/)
})

// Only where the CUDA module was built. A driver is stood in for by a library of its name with the two calls that tell of it.
if (existsSync(backendPath('cuda')))
  for (const [what, version, init, message] of [
    ['too old', 11040, 0, /^\[device\] expected a driver for CUDA \d+\.\d+ or newer, received one for CUDA 11\.4\. Try a newer driver/],
    ['without a GPU', 99000, 100, /^\[device\] expected an NVIDIA GPU, received none that this process may use\. Try checking nvidia-smi/],
  ] as const)
    test(`cuda with a driver ${what}`, (t) => {
      const folder = scratch(t)
      const source = join(folder, 'driver.c')
      writeFileSync(source, `int cuDriverGetVersion(int* v) { *v = ${version}; return 0; }\nint cuInit(unsigned flags) { return ${init}; }\n`)
      execFileSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'libcuda.so.1'), source])
      t.regex(inProcess("createDevice({ device: 'cuda' })", { LD_LIBRARY_PATH: folder }), message)
    })
