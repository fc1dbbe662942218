// The device the tests of computing run on: the CPU, or the one THREEFOLD_TEST_DEVICE names. `npm test` runs them on the CPU
// and then on the emulated device; a machine with a GPU can run them with THREEFOLD_TEST_DEVICE=cuda.
import { createDevice as open } from '../../lib/tensor/device.js'
import type { DeviceOptions, NativeDevice } from '../../lib/tensor/device.js'

export * from '../../lib/tensor/device.js'

export const testDevice = process.env['THREEFOLD_TEST_DEVICE'] ?? 'cpu'
export const onCpu = testDevice === 'cpu'
/** Computes a thousand times slower than the others: tests cut their sizes, not what they prove. */
export const slow = testDevice === 'emulated'
/** Computes a hundred times faster: what is to last some time needs more work. */
export const onGpu = testDevice.startsWith('cuda')

/** As the library's, on the device under test. */
export function createDevice(options: DeviceOptions = {}): NativeDevice & Disposable {
  return open({ device: testDevice, ...options })
}
