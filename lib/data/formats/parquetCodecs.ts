/** Decompression of Parquet pages to a size that is known before; anything else is refused. */
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { compressors, decompressLz4, decompressLz4Raw, decompressZstd } from 'hyparquet-compressors'
import { BadBytes } from './thrift.js'

type Codec = (input: Uint8Array, size: number) => Uint8Array

/** The size that a snappy block claims: the decompressor writes as much, whatever room it was given. */
function snappySize(input: Uint8Array): number {
  let size = 0
  for (let i = 0, place = 1; i < 5 && i < input.length; i++, place *= 128) {
    size += (input[i]! & 0x7f) * place
    if (input[i]! < 0x80) return size
  }
  throw new BadBytes('a snappy block without its size')
}

/** LZ4 in Hadoop's frames: sizes of output and input before each block. Older writers leave the frames out. */
function hasFrames(input: Uint8Array): boolean {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength)
  let offset = 0
  while (offset + 8 <= input.length) {
    const bytes = view.getInt32(offset + 4)
    if (view.getInt32(offset) < 0 || bytes <= 0) return false
    offset += 8 + bytes
  }
  return offset === input.length
}

const codecs: Readonly<Record<string, Codec>> = {
  UNCOMPRESSED: (input) => input,
  SNAPPY: (input, size) => {
    if (snappySize(input) !== size) throw new BadBytes(`a snappy block of ${snappySize(input)} bytes instead of ${size}`)
    return compressors.SNAPPY!(input, size)
  },
  // Node's own are faster and stop at the limit
  GZIP: (input, size) => gunzipSync(input, { maxOutputLength: size }),
  BROTLI: (input, size) => brotliDecompressSync(input, { maxOutputLength: size }),
  ZSTD: (input, size) => decompressZstd(input, new Uint8Array(size)),
  LZ4: (input, size) => (hasFrames(input) ? decompressLz4(input, size) : decompressLz4Raw(input, size)),
  LZ4_RAW: decompressLz4Raw,
}

/** Errors: an unknown codec, broken data, another size than `size`. */
export function decompress(input: Uint8Array, codec: string, size: number): Uint8Array {
  const decode = Object.hasOwn(codecs, codec) ? codecs[codec] : undefined
  if (decode === undefined) throw new BadBytes(`the compression ${codec}`)
  if (size === 0) return new Uint8Array(0)
  const output = decode(input, size)
  if (output.length !== size) throw new BadBytes(`a page of ${output.length} bytes instead of ${size}`)
  return output
}
