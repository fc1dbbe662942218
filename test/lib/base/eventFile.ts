// A reader of event files, written from the formats' descriptions and not from our writer: TFRecord frames, protobuf fields.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'

export interface EventRecord {
  time: number
  step: number
  fileVersion?: string
  start?: boolean
  scalars?: Record<string, number>
}

/** CRC-32C bit by bit over the whole message as one polynomial. */
function checksum(bytes: Uint8Array): number {
  let rest = ~0
  for (const byte of bytes) for (let bit = 0; bit < 8; bit++) rest = ((rest ^ (byte >> bit)) & 1 ? 0x82f63b78 : 0) ^ (rest >>> 1)
  return ~rest >>> 0
}

const unmasked = (stored: number): number => {
  const turned = (stored - 0xa282ead8) >>> 0
  return ((turned << 15) | (turned >>> 17)) >>> 0
}

function* fieldsOf(bytes: Buffer): Generator<[number, number | Buffer]> {
  let at = 0
  const varint = (): number => {
    for (let value = 0, weight = 1; ; weight *= 128) {
      const byte = bytes[at++]!
      value += (byte & 127) * weight
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const tag = varint()
    const type = tag & 7
    if (type === 0) yield [tag >> 3, varint()]
    else if (type === 1) yield [tag >> 3, bytes.readDoubleLE((at += 8) - 8)]
    else if (type === 5) yield [tag >> 3, bytes.readFloatLE((at += 4) - 4)]
    else {
      const length = varint()
      yield [tag >> 3, bytes.subarray(at, (at += length))]
    }
  }
}

function eventOf(bytes: Buffer): EventRecord {
  const out: EventRecord = { time: NaN, step: 0 }
  for (const [field, value] of fieldsOf(bytes)) {
    if (field === 1) out.time = value as number
    else if (field === 2) out.step = value as number
    else if (field === 3) out.fileVersion = String(value)
    else if (field === 7) out.start = [...fieldsOf(value as Buffer)].some(([f, v]) => f === 1 && v === 1)
    else if (field === 5) {
      out.scalars = {}
      for (const [, one] of fieldsOf(value as Buffer)) {
        const parts = new Map(fieldsOf(one as Buffer))
        out.scalars[String(parts.get(1))] = parts.get(2) as number
      }
    } else throw new Error(`field ${field}`)
  }
  return out
}

/** Throws at a checksum that is wrong and at a torn end. */
export function readEvents(bytes: Buffer): EventRecord[] {
  const out: EventRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at))
    const data = bytes.subarray(at + 12, at + 12 + length)
    if (unmasked(bytes.readUInt32LE(at + 8)) !== checksum(bytes.subarray(at, at + 8))) throw new Error(`checksum of the length at ${at}`)
    if (unmasked(bytes.readUInt32LE(at + 12 + length)) !== checksum(data)) throw new Error(`checksum of the data at ${at}`)
    out.push(eventOf(data))
    at += 16 + length
  }
  return out
}

/** The scalars of a folder as TensorBoard shows them: files by name; a start forgets its step and what comes after. */
export async function shownScalars(folder: string): Promise<EventRecord[]> {
  let out: EventRecord[] = []
  for (const name of (await readdir(folder)).sort())
    for (const event of readEvents(await readFile(join(folder, name)))) {
      if (event.start) out = out.filter((e) => e.step < event.step)
      else if (event.scalars) out.push(event)
    }
  return out
}
