// doctor: what was built, what this machine can do.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { join } from 'node:path'

import { asThreefoldError } from '../base/errors.js'
import { option, resolveOptions } from '../base/options.js'
import { addonPath, backendPath, packageRoot } from '../binding/load.js'
import { native } from '../binding/native.js'
import type { DeviceFacts, Native } from '../binding/native.js'
import type { CommandSpec } from './command.js'
import { bytes, table } from './table.js'

const doctorOptions = {
  threads: option.integer(0, 'compute threads of the speed test, 0 = all cores', { min: 0, max: 1024 }),
}

interface AddonReport {
  path: string
  built: string | null
  compiler: string | null
  /** Null: it loads. */
  error: string | null
}

export const doctor: CommandSpec = {
  name: 'doctor',
  summary: 'what was built, what this machine can do, how fast it is',
  options: doctorOptions,
  async run(given) {
    const { threads } = resolveOptions('doctor', doctorOptions, given)
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }
    const addon = describeAddon()
    // a machine on which the addon does not load is what a doctor is for
    const machine = await measure(threads).catch((error: unknown) => {
      addon.error = asThreefoldError(error, 'native addon').message
      return null
    })
    const memory = { total: totalmem(), free: freemem() }
    const report = {
      version,
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      cpu: cpus()[0]?.model ?? null,
      cores: machine?.cores ?? availableParallelism(),
      addon,
      instructionSets: machine && { available: machine.available, chosen: machine.isa, THREEFOLD_ISA: process.env['THREEFOLD_ISA'] ?? null },
      threads: machine?.threads ?? null,
      memory,
      matmul: machine && { gflops: machine.gflops, shape: '[512, 768] x [768, 3072] fp32' },
      cuda: describeCuda(),
    }
    const rows: string[][] = [
      ['threefold', version],
      ['node', `${report.node} (${report.platform})`],
      ['addon', addon.error ?? `${addon.path}, built ${addon.built ?? 'at an unknown time'}${addon.compiler ? ` with ${addon.compiler}` : ''}`],
      ['cpu', `${report.cpu ?? 'unknown'}, ${report.cores} cores`],
    ]
    if (machine)
      rows.push(
        ['instructions', `${machine.isa} (available: ${machine.available.join(', ')}; THREEFOLD_ISA ${process.env['THREEFOLD_ISA'] ?? 'not set'})`],
        ['threads', String(machine.threads)],
        ['matmul', `${machine.gflops.toFixed(1)} GFLOP/s, fp32 [512, 768] x [768, 3072]`],
      )
    rows.push(['memory', `${bytes(memory.free)} free of ${bytes(memory.total)}`], ['cuda', cudaInWords(report.cuda)])
    return { json: report, text: table(rows) }
  },
}

function describeAddon(): AddonReport {
  const path = addonPath()
  const report: AddonReport = { path, built: null, compiler: null, error: null }
  try {
    report.built = statSync(path).mtime.toISOString()
    const stamp = JSON.parse(readFileSync(path.replace(/\.node$/, '.json'), 'utf8')) as { compiler?: string }
    report.compiler = stamp.compiler ?? null
  } catch {
    // without the file, loading it says so
  }
  return report
}

interface CudaReport {
  /** The module's path; null: not built. */
  module: string | null
  devices: DeviceFacts[]
  /** Why there are none. */
  error: string | null
}

function describeCuda(): CudaReport {
  const module = backendPath('cuda')
  if (!existsSync(module)) return { module: null, devices: [], error: null }
  try {
    return { module, devices: native().backendDevices(module), error: null }
  } catch (error) {
    return { module, devices: [], error: asThreefoldError(error, 'device').message }
  }
}

function cudaInWords({ module, devices, error }: CudaReport): string {
  if (module === null) return `not built; \`node ${join(packageRoot, 'scripts', 'backend.mjs')} cuda\` builds it (it needs nvcc)`
  if (error !== null) return `built; ${error}`
  return devices.map((d, i) => `cuda:${i} ${d.name} (${d.architecture}, ${d.multiprocessors} multiprocessors, ${bytes(d.memoryBytes)})`).join('; ')
}

interface Machine {
  available: string[]
  isa: string
  cores: number
  threads: number
  gflops: number
}

/** Multiplies for 0.3 s on an otherwise idle device. */
async function measure(threads: number): Promise<Machine> {
  const { createDevice, fromFloats } = await import('../tensor/device.js')
  const addon: Native = native()
  using device = createDevice({ threads })
  const [m, k, n] = [512, 768, 3072]
  const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 101) / 101 - 0.5)
  const a = fromFloats(device, numbers(m * k), [m, k])
  const b = fromFloats(device, numbers(n * k), [n, k])
  const multiply = async (): Promise<void> => {
    addon.matmul(device, { a, b }).dispose()
    await device.sync()
  }
  await multiply()
  const started = performance.now()
  let runs = 0
  let seconds = 0
  for (; seconds < 0.3; seconds = (performance.now() - started) / 1000) {
    await multiply()
    runs++
  }
  a.dispose()
  b.dispose()
  return { ...addon.cpuInfo(), threads: device.stats().threads, gflops: (2 * m * n * k * runs) / seconds / 1e9 }
}
