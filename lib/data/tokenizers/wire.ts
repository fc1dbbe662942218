/** Protocol buffers' wire format: the fields of a message, one after the other. */

/** A field as it stands: varints and 32-bit fields as numbers, the rest as bytes. */
export interface WireField {
  readonly number: number
  /** Where its value begins in the whole file. */
  readonly at: number
  readonly value: number | Uint8Array
  readonly kind: 'varint' | 'fixed32' | 'bytes' | 'fixed64'
}

/** Why bytes are no message. */
export class WireError extends Error {
  constructor(
    what: string,
    readonly at: number,
  ) {
    super(`${what} at byte ${at}`)
  }
}

/** Fields of the message bytes[from, to); `base` is where bytes[0] stands in the file. Throws WireError. */
export function* wireFields(bytes: Uint8Array, base = 0): Generator<WireField> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const varint = (): number => {
    const start = at
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++]
      if (byte === undefined) throw new WireError('a number that the end cuts off', base + start)
      // Bits beyond the 32nd only say that a number is negative.
      if (shift < 32) value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value | 0
    }
    throw new WireError('a number of more than ten bytes', base + start)
  }
  const take = (length: number, start: number): Uint8Array => {
    if (length < 0 || at + length > bytes.length) throw new WireError(`a field of ${length} bytes where ${bytes.length - at} are left`, base + start)
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const start = at
    const key = varint()
    const number = key >>> 3
    if (number === 0) throw new WireError('a field without a number', base + start)
    switch (key & 7) {
      case 0:
        yield { number, kind: 'varint', at: base + at, value: varint() }
        break
      case 1:
        yield { number, kind: 'fixed64', at: base + at, value: take(8, start) }
        break
      case 2: {
        const length = varint()
        yield { number, kind: 'bytes', at: base + at, value: take(length, start) }
        break
      }
      case 5: {
        take(4, start)
        yield { number, kind: 'fixed32', at: base + at - 4, value: view.getFloat32(at - 4, true) }
        break
      }
      default:
        throw new WireError(`a field of the unknown kind ${key & 7}`, base + start)
    }
  }
}
