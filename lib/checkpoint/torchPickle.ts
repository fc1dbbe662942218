/**
 * The globals and persistent ids by which torch pickles tensors, and nothing else.
 * Sources: torch/_utils.py (_rebuild_tensor and its versions), torch/serialization.py (persistent_id, persistent_load).
 */
import type { PickleWorld } from './pickle.js'
import { PickleGlobal, PickleOrderedDict, PickleTuple, pickleKind } from './pickle.js'
import type { StoredDtype } from './storedDtype.js'
import { dtypeBytes } from './storedDtype.js'
import type { Refuse } from './tensorFiles.js'
import { elementCount, shown } from './tensorFiles.js'

/** One stretch of raw bytes of the file, found by its key. */
export interface TorchStorage {
  readonly key: string
  readonly dtype: StoredDtype
  readonly elements: number
}

/** A tensor as pickled: a view onto a storage, checked to lie within it. Offset and strides count elements of `dtype`. */
export class PickledTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly dtype: StoredDtype,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** A legacy file's storage may be a window of another one. */
class StorageWindow {
  constructor(
    readonly storage: TorchStorage,
    readonly offset: number,
    readonly elements: number,
  ) {}
}

/** torch refuses more. */
const maxDimensions = 64

const storageTypes: Readonly<Record<string, StoredDtype | null>> = {
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.DoubleStorage': 'F64',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
  // Bytes; the tensor on top says its type.
  'torch.storage.UntypedStorage': 'U8',
  // Names no element type: torch writes it for none of the stored kinds.
  'torch.storage.TypedStorage': null,
}

/** Element types without a storage class, which _rebuild_tensor_v3 names (torch/storage.py, _new_dtypes). */
const newDtypes: Readonly<Record<string, StoredDtype>> = {
  'torch.uint16': 'U16',
  'torch.uint32': 'U32',
  'torch.uint64': 'U64',
  'torch.float8_e4m3fn': 'F8_E4M3',
  'torch.float8_e5m2': 'F8_E5M2',
}

export class TorchWorld implements PickleWorld {
  /** Every storage that the pickle names. */
  readonly storages = new Map<string, TorchStorage>()
  private readonly globals = new Map<string, PickleGlobal>()

  constructor(private readonly refuse: Refuse) {
    const functions: Readonly<Record<string, (args: readonly unknown[]) => unknown>> = {
      'collections.OrderedDict': (args) => this.#orderedDict(args),
      'torch._utils._rebuild_tensor': (args) => this.#tensor('_rebuild_tensor', args, 4),
      'torch._utils._rebuild_tensor_v2': (args) => this.#tensor('_rebuild_tensor_v2', args, 6),
      'torch._utils._rebuild_tensor_v3': (args) => this.#tensor('_rebuild_tensor_v3', args, 7),
      'torch._utils._rebuild_parameter': (args) => this.#parameter(args),
    }
    for (const [name, call] of Object.entries(functions)) this.globals.set(name, new PickleGlobal(name, call))
    for (const name of [...Object.keys(storageTypes), ...Object.keys(newDtypes)]) {
      this.globals.set(name, new PickleGlobal(name, null))
    }
  }

  global(name: string): PickleGlobal | undefined {
    return this.globals.get(name)
  }

  /** ('storage', type, key, device, elements), and in the legacy format a window or None after them. */
  persistent(id: unknown): unknown {
    const parts = id instanceof PickleTuple ? id.items : []
    const [tag, type, key, , elements, window] = parts
    if (tag !== 'storage' || !(type instanceof PickleGlobal) || typeof key !== 'string' || !isCount(elements)) {
      const received = tag === 'module' ? 'a module with its source code' : `${pickleKind(id)} in another shape`
      this.refuse('storages as what stands outside the pickle', received, 'to save the state dict alone')
    }
    const dtype = Object.hasOwn(storageTypes, type.name) ? storageTypes[type.name]! : null
    if (dtype === null) this.refuse(`a storage type with an element type for storage ${shown(key)}`, type.name)
    const known = this.storages.get(key)
    const storage = known ?? { key, dtype, elements }
    if (storage.dtype !== dtype || storage.elements !== elements) {
      const describe = (d: StoredDtype, n: number): string => `${n} elements of ${d}`
      this.refuse(
        `one description of storage ${shown(key)}`,
        `${describe(storage.dtype, storage.elements)} and ${describe(dtype, elements)}`,
      )
    }
    this.storages.set(key, storage)
    return window instanceof PickleTuple ? this.#window(storage, window) : storage
  }

  /** (key, offset, elements) */
  #window(storage: TorchStorage, window: PickleTuple): StorageWindow {
    const [, offset, elements] = window.items
    if (!isCount(offset) || !isCount(elements) || offset + elements > storage.elements) {
      this.refuse(`a window within the ${storage.elements} elements of storage ${shown(storage.key)}`, 'another one')
    }
    return new StorageWindow(storage, offset, elements)
  }

  #orderedDict(args: readonly unknown[]): PickleOrderedDict {
    const [pairs = []] = args
    if (args.length > 1 || !Array.isArray(pairs)) this.refuse('an OrderedDict from a list of pairs', pickleKind(pairs))
    const dict = new PickleOrderedDict()
    for (const pair of pairs as unknown[]) {
      const items: unknown = pair instanceof PickleTuple ? pair.items : pair
      if (!Array.isArray(items) || items.length !== 2) this.refuse('pairs for an OrderedDict', pickleKind(pair))
      dict.set(items[0], items[1])
    }
    return dict
  }

  #parameter(args: readonly unknown[]): PickledTensor {
    const [tensor] = args
    if (tensor instanceof PickledTensor) return tensor
    return this.refuse('a tensor as the data of a parameter', pickleKind(tensor))
  }

  /** (storage, offset, shape, strides, requires_grad, hooks, [dtype in v3], [metadata]) */
  #tensor(name: string, args: readonly unknown[], required: number): PickledTensor {
    const [source, offset, shape, strides] = args
    if (args.length < required || args.length > required + 1) {
      this.refuse(`${required} or ${required + 1} arguments for ${name}`, `${args.length}`)
    }
    const window = source instanceof StorageWindow ? source : null
    const storage = window?.storage ?? (source as TorchStorage)
    if (window === null && this.storages.get(storage?.key) !== storage) this.refuse(`a storage for ${name}`, pickleKind(source))
    if (!isCount(offset) || !isShape(shape) || !isShape(strides) || shape.items.length !== strides.items.length) {
      this.refuse(`an offset, a shape and as many strides for ${name}`, 'something else')
    }
    // Conjugate and negative views: their bytes are not their values.
    const metadata = required > 4 ? args[required] : undefined
    if (metadata instanceof Map && metadata.size > 0) this.refuse(`a tensor without flags for ${name}`, 'flags')
    const dtype = required === 7 ? this.#newDtype(args[6]) : storage.dtype
    this.#checkView(storage, window?.elements ?? storage.elements, dtype, offset, shape.items, strides.items)
    const base = window === null ? 0 : (window.offset * dtypeBytes[storage.dtype]) / dtypeBytes[dtype]
    return new PickledTensor(storage, dtype, base + offset, shape.items, strides.items)
  }

  #newDtype(value: unknown): StoredDtype {
    const name = value instanceof PickleGlobal ? value.name : ''
    if (Object.hasOwn(newDtypes, name)) return newDtypes[name]!
    return this.refuse(`an element type of ${Object.keys(newDtypes).join(', ')}`, pickleKind(value))
  }

  #checkView(
    storage: TorchStorage,
    elements: number,
    dtype: StoredDtype,
    offset: number,
    shape: readonly number[],
    strides: readonly number[],
  ): void {
    const count = elementCount(shape)
    if (count === 0) return
    const available = Math.floor((elements * dtypeBytes[storage.dtype]) / dtypeBytes[dtype])
    const last = shape.reduce((sum, extent, d) => sum + (extent - 1) * strides[d]!, offset)
    // More elements than the storage has means a view that shows some twice: read whole, it could be of any size.
    if (last < available && count <= available) return
    this.refuse(
      `a view within the ${available} elements of storage ${shown(storage.key)}`,
      `shape [${shape.join(', ')}], strides [${strides.join(', ')}] at element ${offset}`,
    )
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isShape(value: unknown): value is { readonly items: readonly number[] } {
  return value instanceof PickleTuple && value.items.length <= maxDimensions && value.items.every(isCount)
}
