// The offsets of a zip archive set right after an edit moved its parts, so that the edit itself reaches the reader.

const localHeader = Buffer.from('PK\x03\x04', 'latin1')
const directoryEntry = Buffer.from('PK\x01\x02', 'latin1')
const end = Buffer.from('PK\x05\x06', 'latin1')
const end64 = Buffer.from('PK\x06\x06', 'latin1')
const locator64 = Buffer.from('PK\x06\x07', 'latin1')

function placesOf(signature: Buffer, bytes: Buffer): number[] {
  const places: number[] = []
  for (let at = bytes.indexOf(signature); at >= 0; at = bytes.indexOf(signature, at + 1)) places.push(at)
  return places
}

/** A little-endian integer where there is room for it. */
function put(bytes: Buffer, at: number, width: 4 | 8, value: number): void {
  if (at < 0 || at + width > bytes.length) return
  if (width === 4) bytes.writeUInt32LE(value, at)
  else bytes.writeBigUInt64LE(BigInt(value), at)
}

/** Where each entry begins, where the directory does, and how long data.pkl is. What cannot be found stays as it is. */
export function repairZip(mutated: Uint8Array): Uint8Array {
  const bytes = Buffer.from(mutated)
  const [locals, entries] = [placesOf(localHeader, bytes), placesOf(directoryEntry, bytes)]
  const [endAt, end64At, locatorAt] = [bytes.lastIndexOf(end), bytes.lastIndexOf(end64), bytes.lastIndexOf(locator64)]
  const directoryAt = entries[0]
  if (directoryAt === undefined || endAt < directoryAt) return mutated
  const directoryBytes = (end64At > directoryAt ? end64At : endAt) - directoryAt
  put(bytes, endAt + 12, 4, directoryBytes)
  put(bytes, endAt + 16, 4, directoryAt)
  if (end64At > directoryAt && locatorAt > end64At) {
    put(bytes, end64At + 40, 8, directoryBytes)
    put(bytes, end64At + 48, 8, directoryAt)
    put(bytes, locatorAt + 8, 8, end64At)
  }
  if (locals.length !== entries.length) return bytes
  for (const [index, at] of entries.entries()) {
    const local = locals[index]!
    put(bytes, at + 42, 4, local)
    if (local + 30 > bytes.length) continue
    const dataAt = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28)
    const dataBytes = (locals[index + 1] ?? directoryAt) - dataAt
    // Anything may stand behind a pickle; the other entries have sizes that mean something.
    if (dataBytes < 0 || !bytes.subarray(local + 30, dataAt).includes('data.pkl')) continue
    put(bytes, at + 20, 4, dataBytes)
    put(bytes, at + 24, 4, dataBytes)
  }
  return bytes
}
