/**
 * The directory of a zip archive whose entries are stored, not compressed, as torch writes them: each entry is then a
 * range of bytes of the file. Format: PKWARE APPNOTE 6.3.10, 4.3.7 (local header), 4.3.12 (directory), 4.3.14-16 (end,
 * zip64), 4.5.3 (zip64 sizes).
 */
import type { FileHandle } from 'node:fs/promises'
import type { Refuse } from './tensorFiles.js'
import { readAt, shown } from './tensorFiles.js'

interface ZipEntry {
  readonly name: string
  readonly bytes: number
  readonly headerAt: number
}

export interface ByteRange {
  readonly begin: number
  readonly end: number
}

const endBytes = 22
const maxCommentBytes = 0xffff
const locatorBytes = 20
const end64Bytes = 56
const directoryEntryBytes = 46
const localHeaderBytes = 30
const maxDirectoryBytes = 1 << 26
const unknown32 = 0xffffffff

export class ZipArchive {
  private constructor(
    private readonly handle: FileHandle,
    private readonly file: string,
    private readonly entries: ReadonlyMap<string, ZipEntry>,
    /** Where the directory begins: entries end before. */
    private readonly dataEnd: number,
    private readonly refuse: Refuse,
  ) {}

  /** Reads the directory of an open file. */
  static async open(handle: FileHandle, file: string, size: number, refuse: Refuse): Promise<ZipArchive> {
    const end = await findDirectory(handle, file, size, refuse)
    if (end.bytes > maxDirectoryBytes) refuse(`a zip directory of at most ${maxDirectoryBytes} bytes`, `${end.bytes}`)
    const directory = Buffer.alloc(end.bytes)
    await readAt(handle, directory, end.at, file)
    const entries = readDirectory(directory, end.count, refuse)
    return new ZipArchive(handle, file, entries, end.at, refuse)
  }

  get names(): Iterable<string> {
    return this.entries.keys()
  }

  has(name: string): boolean {
    return this.entries.has(name)
  }

  /** Where an entry's bytes lie in the file. Error: not there, or not within the file. */
  async range(name: string): Promise<ByteRange> {
    const entry = this.entries.get(name)
    if (entry === undefined) this.refuse(`the entry ${shown(name)}`, 'an archive without it')
    if (entry.headerAt + localHeaderBytes > this.dataEnd) this.#refuseRange(entry, entry.headerAt)
    const header = Buffer.alloc(localHeaderBytes)
    await readAt(this.handle, header, entry.headerAt, this.file)
    if (header.readUInt32LE() !== 0x04034b50) this.refuse(`a zip entry header at byte ${entry.headerAt}`, 'other bytes')
    // The local extra field is torch's padding: its length is not the directory's.
    const begin = entry.headerAt + localHeaderBytes + header.readUInt16LE(26) + header.readUInt16LE(28)
    if (begin + entry.bytes > this.dataEnd) this.#refuseRange(entry, begin)
    return { begin, end: begin + entry.bytes }
  }

  #refuseRange(entry: ZipEntry, begin: number): never {
    this.refuse(
      `entry ${shown(entry.name)} before the zip directory at byte ${this.dataEnd}`,
      `${entry.bytes} bytes at byte ${begin}`,
    )
  }
}

interface Directory {
  readonly at: number
  readonly bytes: number
  readonly count: number
}

async function findDirectory(handle: FileHandle, file: string, size: number, refuse: Refuse): Promise<Directory> {
  const tail = Buffer.alloc(Math.min(size, endBytes + maxCommentBytes + locatorBytes))
  await readAt(handle, tail, size - tail.length, file)
  let at = tail.length - endBytes
  while (at >= 0 && !(tail.readUInt32LE(at) === 0x06054b50 && at + endBytes + tail.readUInt16LE(at + 20) === tail.length)) at--
  if (at < 0) refuse('the end record of a zip archive', 'none, as in a file that was cut short')
  const endAt = size - tail.length + at
  const found: Directory = { count: tail.readUInt16LE(at + 10), bytes: tail.readUInt32LE(at + 12), at: tail.readUInt32LE(at + 16) }
  const locator = at >= locatorBytes ? tail.subarray(at - locatorBytes, at) : Buffer.alloc(0)
  const isZip64 = locator.length > 0 && locator.readUInt32LE() === 0x07064b50
  const directory = isZip64 ? await readEnd64(handle, file, endAt - locatorBytes, locator, refuse) : found
  const limit = isZip64 ? endAt - locatorBytes - end64Bytes : endAt
  if (directory.at + directory.bytes > limit || directory.count * directoryEntryBytes > directory.bytes) {
    const received = `${directory.count} entries in ${directory.bytes} bytes at byte ${directory.at}`
    refuse(`a zip directory before its end record at byte ${limit}`, received)
  }
  return directory
}

async function readEnd64(
  handle: FileHandle,
  file: string,
  locatorAt: number,
  locator: Buffer,
  refuse: Refuse,
): Promise<Directory> {
  const at = exact(locator.readBigUInt64LE(8), 'zip64 end record', refuse)
  if (at + end64Bytes > locatorAt) refuse(`a zip64 end record before byte ${locatorAt}`, `byte ${at}`)
  const end = Buffer.alloc(end64Bytes)
  await readAt(handle, end, at, file)
  if (end.readUInt32LE() !== 0x06064b50) refuse(`a zip64 end record at byte ${at}`, 'other bytes')
  return {
    count: exact(end.readBigUInt64LE(32), 'zip directory', refuse),
    bytes: exact(end.readBigUInt64LE(40), 'zip directory', refuse),
    at: exact(end.readBigUInt64LE(48), 'zip directory', refuse),
  }
}

function exact(value: bigint, what: string, refuse: Refuse): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) refuse(`a ${what} within the file`, `${value}`)
  return Number(value)
}

function readDirectory(directory: Buffer, count: number, refuse: Refuse): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>()
  let at = 0
  for (let index = 0; index < count; index++) {
    const left = directory.length - at
    if (left < directoryEntryBytes || directory.readUInt32LE(at) !== 0x02014b50) {
      refuse(`${count} entries in the zip directory`, `${index} and other bytes`)
    }
    const nameBytes = directory.readUInt16LE(at + 28)
    const extraBytes = directory.readUInt16LE(at + 30)
    const bytes = directoryEntryBytes + nameBytes + extraBytes + directory.readUInt16LE(at + 32)
    if (bytes > left) refuse(`a zip directory entry within its ${left} bytes`, `${bytes}`)
    const name = directory.toString('utf8', at + directoryEntryBytes, at + directoryEntryBytes + nameBytes)
    const extra = directory.subarray(at + directoryEntryBytes + nameBytes, at + directoryEntryBytes + nameBytes + extraBytes)
    if (entries.has(name)) refuse(`one zip entry named ${shown(name)}`, 'two')
    entries.set(name, readEntry(directory.subarray(at, at + directoryEntryBytes), extra, name, refuse))
    at += bytes
  }
  return entries
}

function readEntry(header: Buffer, extra: Buffer, name: string, refuse: Refuse): ZipEntry {
  const entry = `zip entry ${shown(name)}`
  if ((header.readUInt16LE(8) & 1) !== 0) refuse(`${entry} as plain bytes`, 'an encrypted one', 'the archive without encryption')
  const method = header.readUInt16LE(10)
  if (method !== 0) {
    const received = method === 8 ? 'a deflated one' : `compression method ${method}`
    refuse(`${entry} stored as it is`, received, 'to save it with torch.save, which compresses nothing')
  }
  // Three fields may stand in the zip64 extra instead, in this order, those that are all ones here.
  let wide = zip64Extra(extra)
  const field = (short: number): number => {
    if (short !== unknown32) return short
    const next = wide.length >= 8 ? exact(wide.readBigUInt64LE(), entry, refuse) : refuse(`the zip64 sizes of ${entry}`, 'none')
    wide = wide.subarray(8)
    return next
  }
  const bytes = field(header.readUInt32LE(24))
  const storedBytes = field(header.readUInt32LE(20))
  if (bytes !== storedBytes) refuse(`one size for the stored ${entry}`, `${storedBytes} and ${bytes}`)
  return { name, bytes, headerAt: field(header.readUInt32LE(42)) }
}

function zip64Extra(extra: Buffer): Buffer {
  for (let at = 0; at + 4 <= extra.length;) {
    const bytes = extra.readUInt16LE(at + 2)
    if (extra.readUInt16LE(at) === 1) return extra.subarray(at + 4, at + 4 + bytes)
    at += 4 + bytes
  }
  return Buffer.alloc(0)
}
