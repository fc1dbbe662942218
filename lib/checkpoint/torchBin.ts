/**
 * Reading pytorch_model.bin without running what stands in it: torch's zip archive (since 1.6) and the format before.
 * Both store a tensor's bytes as they are, so a tensor becomes a range of bytes of the file.
 * Sources: torch/serialization.py (_save, _load, _legacy_save, _legacy_load).
 */
import type { FileHandle } from 'node:fs/promises'
import { fail } from '../base/errors.js'
import { pickleKind, readPickle } from './pickle.js'
import { NeedsMoreBytes, PickleSource } from './pickleSource.js'
import { stateDictTensors } from './stateDict.js'
import { dtypeBytes } from './storedDtype.js'
import type { StoredTensor, WeightFile } from './storedTensors.js'
import type { Refuse } from './tensorFiles.js'
import { elementCount, readAt, shown, withFile } from './tensorFiles.js'
import type { PickledTensor, TorchStorage } from './torchPickle.js'
import { TorchWorld } from './torchPickle.js'
import type { ByteRange } from './zip.js'
import { ZipArchive } from './zip.js'

/** A pickle of 40,000 tensors is a tenth of it. */
const maxPickleBytes = 1 << 26
/** Most legacy pickles lie within the first; a longer one is read again. */
const legacyPrefixes = [1 << 20, 1 << 24, maxPickleBytes]
const legacyMagic = 0x1950a86a20f9469cfc6cn
const legacyProtocol = 1001
const zipSignature = 0x04034b50

interface Source {
  readonly handle: FileHandle
  readonly file: string
  readonly size: number
  readonly refuse: Refuse
}

interface Unpickled {
  readonly value: unknown
  /** Where the bytes of each storage lie. */
  readonly places: ReadonlyMap<string, ByteRange>
}

/** Reads and checks everything but the tensors' bytes. The file is not kept open. */
export async function openTorchBin(file: string): Promise<WeightFile> {
  const refuse: Refuse = (expected, received, cure = 'to copy or download the file again') =>
    fail('torch', `${expected} in ${file}`, received, cure)
  return withFile(file, async (handle) => {
    const { size } = await handle.stat()
    const source: Source = { handle, file, size, refuse }
    const head = Buffer.alloc(4)
    if (size < head.length) refuse('a file of torch.save', `${size} bytes`)
    await readAt(handle, head, 0, file)
    const isZip = head.readUInt32LE() === zipSignature
    if (!isZip && head[0] !== 0x80) {
      refuse('a file of torch.save: a zip archive, or pickles', `the bytes ${head.toString('hex')}`, 'the file of a PyTorch checkpoint')
    }
    const { value, places } = isZip ? await readZip(source) : await readLegacy(source)
    const entries = new Map<string, StoredTensor>()
    for (const [name, tensor] of stateDictTensors(value, refuse)) entries.set(name, describe(name, tensor, places, file))
    return { file, entries }
  })
}

async function readZip(source: Source): Promise<Unpickled> {
  const { handle, file, size, refuse } = source
  const archive = await ZipArchive.open(handle, file, size, refuse)
  const pickles = [...archive.names].filter((name) => /^[^/]+\/data\.pkl$/.test(name))
  if (pickles.length !== 1) refuse('one entry data.pkl', `${pickles.length}`, 'the file of a PyTorch checkpoint')
  const root = pickles[0]!.slice(0, -'data.pkl'.length)
  if (archive.has(`${root}constants.pkl`)) refuse('a state dict', 'a TorchScript archive', 'to save the state dict of the model')
  await expectLittleEndian(archive, root, source)
  const pickle = await readEntry(archive, pickles[0]!, maxPickleBytes, source)
  const world = new TorchWorld(refuse)
  const value = readPickle(new PickleSource(pickle, true, refuse), world)
  const places = new Map<string, ByteRange>()
  for (const storage of world.storages.values()) {
    const place = await archive.range(`${root}data/${storage.key}`)
    const needed = storageBytes(storage)
    if (place.end - place.begin < needed) {
      refuse(`${needed} bytes for storage ${shown(storage.key)}`, `${place.end - place.begin}`)
    }
    places.set(storage.key, place)
  }
  return { value, places }
}

async function readEntry(archive: ZipArchive, name: string, maxBytes: number, source: Source): Promise<Buffer> {
  const { begin, end } = await archive.range(name)
  if (end - begin > maxBytes) source.refuse(`at most ${maxBytes} bytes for ${shown(name)}`, `${end - begin}`)
  const bytes = Buffer.alloc(end - begin)
  await readAt(source.handle, bytes, begin, source.file)
  return bytes
}

/** torch writes the order down since 2.0; before, it was the writer's, in practice always this one. */
async function expectLittleEndian(archive: ZipArchive, root: string, source: Source): Promise<void> {
  const name = `${root}byteorder`
  if (!archive.has(name)) return
  const order = (await readEntry(archive, name, 64, source)).toString('latin1')
  if (order !== 'little') source.refuse('tensors in little-endian order', shown(order), 'to save the checkpoint on a little-endian machine')
}

async function readLegacy(source: Source): Promise<Unpickled> {
  for (const limit of legacyPrefixes) {
    const bytes = Buffer.alloc(Math.min(limit, source.size))
    await readAt(source.handle, bytes, 0, source.file)
    // Beyond the last limit a pickle counts as torn.
    const isWhole = bytes.length === source.size
    try {
      const pickles = readLegacyPickles(new PickleSource(bytes, isWhole, source.refuse), source.refuse)
      return { value: pickles.value, places: await placeStorages(pickles, source) }
    } catch (error) {
      if (!(error instanceof NeedsMoreBytes)) throw error
    }
  }
  source.refuse(`pickles within the first ${maxPickleBytes} bytes`, 'longer ones', 'to save the state dict alone')
}

interface LegacyPickles {
  readonly value: unknown
  readonly storages: ReadonlyMap<string, TorchStorage>
  /** In the order of their bytes. */
  readonly keys: readonly unknown[]
  /** Where the first storage begins. */
  readonly end: number
}

/** Magic number, protocol, system, the value, the storages' keys: a pickle each. */
function readLegacyPickles(bytes: PickleSource, refuse: Refuse): LegacyPickles {
  const world = new TorchWorld(refuse)
  const next = (): unknown => readPickle(bytes, world)
  if (next() !== legacyMagic) refuse('the magic number of torch.save', 'another pickle', 'the file of a PyTorch checkpoint')
  const protocol = next()
  if (protocol !== legacyProtocol) refuse(`protocol ${legacyProtocol} of torch.save`, shown(String(protocol)))
  const system = next()
  if (!(system instanceof Map) || system.get('little_endian') !== true) {
    refuse('tensors in little-endian order', 'another order, or none named', 'to save the checkpoint on a little-endian machine')
  }
  const value = next()
  const keys = next()
  if (!Array.isArray(keys)) refuse('a list of storage keys', pickleKind(keys))
  return { value, storages: world.storages, keys: keys as unknown[], end: bytes.offset }
}

/** Each storage: its number of elements in 8 bytes, then its bytes. */
async function placeStorages(pickles: LegacyPickles, source: Source): Promise<Map<string, ByteRange>> {
  const { handle, file, size } = source
  const refuse: Refuse = source.refuse
  const places = new Map<string, ByteRange>()
  const head = Buffer.alloc(8)
  let at = pickles.end
  for (const key of pickles.keys) {
    const storage = typeof key === 'string' ? pickles.storages.get(key) : undefined
    if (storage === undefined || places.has(storage.key)) {
      const which = typeof key === 'string' ? shown(key) : pickleKind(key)
      refuse('each storage once in the list of keys', which)
    }
    if (at + head.length > size) refuse(`storage ${shown(storage.key)} at byte ${at}`, `a file of ${size} bytes`)
    await readAt(handle, head, at, file)
    const elements = head.readBigInt64LE()
    const begin = at + head.length
    const end = begin + storageBytes(storage)
    if (elements !== BigInt(storage.elements)) refuse(`${storage.elements} elements in storage ${shown(storage.key)}`, `${elements}`)
    if (end > size) refuse(`${end - begin} bytes for storage ${shown(storage.key)}`, `${size - begin}`)
    places.set(storage.key, { begin, end })
    at = end
  }
  const missing = [...pickles.storages.keys()].find((key) => !places.has(key))
  if (missing !== undefined) refuse(`the bytes of storage ${shown(missing)}`, 'a list of keys without it')
  return places
}

function storageBytes(storage: TorchStorage): number {
  return storage.elements * dtypeBytes[storage.dtype]
}

function describe(name: string, tensor: PickledTensor, places: ReadonlyMap<string, ByteRange>, file: string): StoredTensor {
  const { dtype, shape, strides, offset } = tensor
  const storageBegin = places.get(tensor.storage.key)!.begin
  if (elementCount(shape) === 0) return { name, dtype, shape, file, begin: storageBegin, end: storageBegin }
  const begin = storageBegin + offset * dtypeBytes[dtype]
  const last = shape.reduce((sum, extent, d) => sum + (extent - 1) * strides[d]!, 0)
  const entry = { name, dtype, shape, file, begin, end: begin + (last + 1) * dtypeBytes[dtype] }
  return isContiguous(shape, strides) ? entry : { ...entry, strides }
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1
  for (let d = shape.length - 1; d >= 0; d--) {
    // The stride of a single row or column is never used.
    if (shape[d] !== 1 && strides[d] !== expected) return false
    expected *= shape[d]!
  }
  return true
}
