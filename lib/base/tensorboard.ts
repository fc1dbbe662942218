// Event files of TensorBoard: TFRecord frames (tensorflow/core/lib/io/record_writer.h) around Event messages in protobuf's
// wire format (tensorflow/core/util/event.proto, framework/summary.proto), of which scalars need a handful of fields.
import { readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

import { AppendedFile } from './appended.js'
import { maskedCrc32c } from './crc32c.js'
import { ensureWritable, failOnFile, pathExists } from './files.js'

/** The part of a folder's events that a checkpoint knows of. */
export interface EventsWritten {
  /** Name inside the folder. */
  file: string
  bytes: number
}

// wire types of protobuf
const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

/** A whole number of at least 0, seven bits a byte, the lowest first. */
function varint(value: number): Buffer {
  const out: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128)
  return Buffer.from([...out, rest])
}

const key = (field: number, type: number): Buffer => varint(field * 8 + type)

function numberField(field: number, type: typeof FIXED64 | typeof FIXED32, value: number): Buffer {
  const out = Buffer.alloc(type === FIXED64 ? 8 : 4)
  if (type === FIXED64) out.writeDoubleLE(value)
  else out.writeFloatLE(value)
  return Buffer.concat([key(field, type), out])
}

const bytesField = (field: number, bytes: Buffer): Buffer => Buffer.concat([key(field, BYTES), varint(bytes.length), bytes])
const textField = (field: number, text: string): Buffer => bytesField(field, Buffer.from(text, 'utf8'))
const wholeField = (field: number, value: number): Buffer => Buffer.concat([key(field, VARINT), varint(value)])

/** Event { double wall_time = 1; int64 step = 2; ... }; a step of 0 is not written, as protobuf does it. */
const event = (time: number, step: number, what: Buffer): Buffer => Buffer.concat([numberField(1, FIXED64, time), ...(step === 0 ? [] : [wholeField(2, step)]), what])
/** string file_version = 3 */
const fileVersion = textField(3, 'brain.Event:2')
/** SessionLog session_log = 7 { SessionStatus status = 1 } with START = 1: readers forget what they have from this step on. */
const sessionStart = bytesField(7, wholeField(1, 1))
/** Summary summary = 5 { repeated Value value = 1 { string tag = 1; float simple_value = 2 } } */
const scalars = (values: readonly (readonly [string, number])[]): Buffer => bytesField(5, Buffer.concat(values.map(([tag, value]) => bytesField(1, Buffer.concat([textField(1, tag), numberField(2, FIXED32, value)])))))

/** Length as uint64, its masked checksum, the data, their masked checksum; all little-endian. */
function record(data: Buffer): Buffer {
  const out = Buffer.alloc(12 + data.length + 4)
  out.writeBigUInt64LE(BigInt(data.length))
  out.writeUInt32LE(maskedCrc32c(out.subarray(0, 8)), 8)
  data.copy(out, 12)
  out.writeUInt32LE(maskedCrc32c(data), 12 + data.length)
  return out
}

/** The number at the end of a name, which counts how often the run went on. */
const named = /^(events\.out\.tfevents\..*)\.(\d{4})$/

/** "events.out.tfevents.1700000000.host.4242.sft.0000": readers take a folder's files in the order of their names. */
async function nextName(folder: string, stage: string, before: EventsWritten | null): Promise<string> {
  const stem = before && named.exec(before.file)?.[1]
  if (!stem) return `events.out.tfevents.${Math.floor(Date.now() / 1000)}.${hostname()}.${process.pid}.${stage}.0000`
  const used = (await readdir(folder)).flatMap((name) => (named.exec(name)?.[1] === stem ? Number(named.exec(name)![2]) : []))
  return `${stem}.${String(Math.max(-1, ...used) + 1).padStart(4, '0')}`
}

/** What an earlier run wrote after its checkpoint is taken back. */
async function cutBack(folder: string, { file, bytes }: EventsWritten): Promise<void> {
  const stem = named.exec(file)?.[1]
  for (const name of await readdir(folder)) if (named.exec(name)?.[1] === stem && name > file) await rm(join(folder, name))
  if (await pathExists(join(folder, file))) await (await AppendedFile.open(join(folder, file), bytes)).close()
}

export class TensorboardEvents {
  private constructor(
    private readonly name: string,
    private readonly file: AppendedFile,
  ) {}

  /**
   * Begins a file in `folder`, which is made. `before`: where the checkpoint stands that the run goes on from; `first`: the first
   * step to come. A resumed run goes on in a file of its own, and what it is about to write again is gone from the earlier ones:
   * TensorBoard shows no step twice, also one that has been looking on all the time.
   */
  static async open(folder: string, stage: string, first: number, before: EventsWritten | null): Promise<TensorboardEvents> {
    try {
      await ensureWritable(folder)
      const name = await nextName(folder, stage, before)
      if (before) await cutBack(folder, before)
      const file = await AppendedFile.open(join(folder, name), null)
      const now = Date.now() / 1000
      file.write(record(event(now, 0, fileVersion)))
      file.write(record(event(now, first, sessionStart)))
      return new TensorboardEvents(name, file)
    } catch (error) {
      return failOnFile(error, `to write events into ${folder}`)
    }
  }

  /** Every finite number of a line of metrics, under its own name. `time` in seconds since 1970. */
  write(step: number, time: number, metrics: Readonly<Record<string, unknown>>): void {
    const values = Object.entries(metrics).filter((entry): entry is [string, number] => typeof entry[1] === 'number' && Number.isFinite(entry[1]))
    if (values.length > 0) this.file.write(record(event(time, step, scalars(values))))
  }

  get written(): EventsWritten {
    return { file: this.name, bytes: this.file.bytes }
  }

  flush(): Promise<void> {
    return this.file.flush()
  }

  close(): Promise<void> {
    return this.file.close()
  }
}
