// Files in torch's format before 1.6, spelt by hand (torch/serialization.py, _legacy_save).

export interface LegacyTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  /** fp32, the whole storage. */
  readonly storage: Uint8Array
}

/** Parts that a broken file has otherwise, as Latin-1 text of a pickle without its STOP. */
export interface LegacyParts {
  readonly protocol?: string
  readonly system?: string
  readonly keys?: string
  /** As written before each storage. */
  readonly elements?: number
}

const int = (value: number): string => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return `J${bytes.toString('latin1')}`
}
const text = (value: string): string => `U${String.fromCharCode(value.length)}${value}`
const tuple = (values: readonly number[]): string => `(${values.map(int).join('')}t`

const twoFloats: LegacyTensor = { name: 'w', shape: [2], strides: [1], storage: new Uint8Array(8).fill(7) }

/** Each tensor has a storage of its own: "0", "1" and so on. */
export function legacyFile(tensors: readonly LegacyTensor[] = [twoFloats], parts: LegacyParts = {}): Buffer {
  const items = tensors.map(({ name, shape, strides, storage }, key) => {
    const id = `(${text('storage')}ctorch\nFloatStorage\n${text(String(key))}${text('cpu')}${int(storage.length / 4)}NtQ`
    return `${text(name)}ctorch._utils\n_rebuild_tensor_v2\n(${id}K\x00${tuple(shape)}${tuple(strides)}\x89NtR`
  })
  const magic = '\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19'
  const { protocol = 'M\xe9\x03', system = `}${text('little_endian')}\x88s` } = parts
  const { keys = `](${tensors.map((_, key) => text(String(key))).join('')}e` } = parts
  const pickles = [magic, protocol, system, `}(${items.join('')}u`, keys].map((pickle) => `\x80\x02${pickle}.`)
  const storages = tensors.flatMap(({ storage }) => {
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(BigInt(parts.elements ?? storage.length / 4))
    return [count, storage]
  })
  return Buffer.concat([Buffer.from(pickles.join(''), 'latin1'), ...storages])
}
