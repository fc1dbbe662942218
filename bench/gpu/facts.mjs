// What there is: the devices of the module, one of which multiplies two numbers; driver and clocks by nvidia-smi. Prints JSON.
//   node bench/gpu/facts.mjs [--device cuda]
import { spawnSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'

import { flags, library, stop } from './library.mjs'

const { findBackend } = await library('binding/load.js')
const { native } = await library('binding/native.js')
const { createDevice, fromFloats, readFloats } = await library('tensor/device.js')

const { device: kind } = flags('facts', { device: 'cuda' })

function nvidiaSmi() {
  const names = ['name', 'driver_version', 'clocks.sm', 'clocks.max.sm', 'clocks.mem', 'power.limit', 'memory.total', 'memory.used', 'ecc.mode.current', 'mig.mode.current', 'pcie.link.gen.current']
  const done = spawnSync('nvidia-smi', [`--query-gpu=${names.join(',')}`, '--format=csv,noheader'], { encoding: 'utf8' })
  if (done.status !== 0) return null
  return done.stdout.trim().split('\n').map((line) => Object.fromEntries(line.split(', ').map((value, i) => [names[i], value])))
}

const devices = native().backendDevices(findBackend(kind.split(':')[0]))
const device = createDevice({ device: kind })
const a = fromFloats(device, Float32Array.of(3, 4), [1, 2])
const product = native().matmul(device, { a, b: a })
const [value] = await readFloats(product)
if (value !== 25) stop('facts', '3 x 3 + 4 x 4 to be 25', String(value), 'the op tests, which say which kernel is wrong')
device.dispose()
console.log(JSON.stringify({ devices, gpus: nvidiaSmi(), node: process.version, cpu: cpus()[0]?.model, cores: cpus().length, memoryBytes: totalmem(), kernel: release() }))
