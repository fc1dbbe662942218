// Claims inside a Parquet file that are refused before hyparquet allocates or loops by them.
import { open } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { decompress } from '../../../../lib/data/formats/parquetCodecs.js'
import { readBytes, readFooter } from '../../../../lib/data/formats/parquetFooter.js'
import type { Chunk, Leaf } from '../../../../lib/data/formats/parquetFooter.js'
import { cleanChunk } from '../../../../lib/data/formats/parquetPages.js'
import { checkValues, hybridNumbers } from '../../../../lib/data/formats/parquetValues.js'
import { BadBytes, CompactReader, compactStruct } from '../../../../lib/data/formats/thrift.js'
import type { ThriftStruct } from '../../../../lib/data/formats/thrift.js'

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const refuses = (t: ExecutionContext, action: () => unknown, says: RegExp): void => {
  const error = t.throws(action, { instanceOf: BadBytes })
  t.regex(error.message, says)
}

test('numbers in runs and groups, as in the specification', (t) => {
  // Encodings.md: 0 to 7 in 3 bits each are 10001000 11000110 11111010
  t.deepEqual([...hybridNumbers(bytes(0x03, 0x88, 0xc6, 0xfa), 0, 3, 8)], [0, 1, 2, 3, 4, 5, 6, 7])
  t.deepEqual([...hybridNumbers(bytes(0x08, 5, 0x03, 0x88, 0xc6, 0xfa), 0, 3, 9)], [5, 5, 5, 5, 0, 1, 2, 3, 4])
  refuses(t, () => hybridNumbers(bytes(0xfe, 0xff, 0xff, 0xff, 0x07, 1), 0, 1, 9), /a run of 1073741823 numbers where 9 are left/)
  refuses(t, () => hybridNumbers(bytes(0xff, 0xff, 0xff, 0xff, 0x07, 1), 0, 0, 9), /8589934584 numbers where 9 are left/)
  refuses(t, () => hybridNumbers(bytes(0x00, 1), 0, 1, 9), /a run of 0/)
  refuses(t, () => hybridNumbers(bytes(0x03, 0x88), 0, 3, 8), /end early/)
  refuses(t, () => hybridNumbers(bytes(0x10), 0, 9, 8), /end early/)
  refuses(t, () => hybridNumbers(bytes(0x10, 1), 0, 40, 8), /numbers of 40 bits/)
})

const element = (type: string, more: object = {}): Leaf['element'] => ({ type, name: 'x', ...more }) as Leaf['element']

test('values that claim more than there is', (t) => {
  const check = (encoding: string, page: Uint8Array, count: number, type = 'BYTE_ARRAY', dictionary = -1, budget = 100): void => checkValues(page, 0, count, encoding, element(type, { type_length: 2 ** 30 }), dictionary, budget)
  t.notThrows(() => check('PLAIN', bytes(1, 0, 0, 0, 65), 1))
  refuses(t, () => check('PLAIN', bytes(2, 0, 0, 0, 65), 1), /longer than its page/)
  refuses(t, () => check('PLAIN', bytes(1, 2, 3, 4), 2, 'INT64'), /end early/)
  refuses(t, () => check('BYTE_STREAM_SPLIT', bytes(1), 4, 'FIXED_LEN_BYTE_ARRAY'), /end early/)
  refuses(t, () => check('RLE_DICTIONARY', bytes(1, 0x08, 1), 4), /dictionary which is not there/)
  refuses(t, () => check('RLE_DICTIONARY', bytes(3, 0x08, 4), 4, 'BYTE_ARRAY', 4), /outside the dictionary of 4/)
  refuses(t, () => check('DELTA_BINARY_PACKED', bytes(0x80, 1, 0, 4, 0), 4, 'INT64'), /blocks of 128 numbers in 0 parts/)
  refuses(t, () => check('DELTA_BINARY_PACKED', bytes(0xff, 0xff, 0xff, 0x7f, 4, 4, 0), 4, 'INT64'), /blocks of/)
  refuses(t, () => check('GROUP_VAR_INT', bytes(1), 1), /BYTE_ARRAY in the encoding GROUP_VAR_INT/)
  // lengths 3, 3, ... (one value, then differences of 0): no bytes of text behind them
  const lengths = (first: number): number[] => [0x80, 1, 4, 2, first * 2, 0, 0, 0, 0, 0]
  refuses(t, () => check('DELTA_LENGTH_BYTE_ARRAY', bytes(...lengths(3)), 2), /longer than its page/)
  refuses(t, () => check('DELTA_BYTE_ARRAY', bytes(...lengths(3), ...lengths(0)), 2), /impossible length/)
  // each text shares all of the one before it, so that 20 bytes of page make any number of texts
  const shared = [0x80, 1, 4, 40, 0, 100, 0, 0, 0, 0]
  refuses(t, () => check('DELTA_BYTE_ARRAY', bytes(...shared, ...lengths(50), ...Array<number>(2000).fill(65)), 40), /texts of 41000 bytes/)
})

test('a page of another size than its header says', (t) => {
  refuses(t, () => decompress(bytes(0xff, 0xff, 0xff, 0xff, 0x0f, 0), 'SNAPPY', 10), /4294967295 bytes instead of 10/)
  refuses(t, () => decompress(bytes(1, 2), 'UNCOMPRESSED', 3), /2 bytes instead of 3/)
  refuses(t, () => decompress(bytes(1), 'LZO', 3), /the compression LZO/)
  // frames of Hadoop's LZ4 with a negative size, which would be walked without an end
  t.throws(() => decompress(bytes(0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf8, 0, 0, 0, 0, 0, 0, 0, 0, 0), 'LZ4', 8))
})

test('a structure that claims more than there is', (t) => {
  const read = (...values: number[]): ThriftStruct => new CompactReader(bytes(...values)).struct()
  t.deepEqual([...read(0x15, 0x54, 0)], [[1, 42]])
  refuses(t, () => read(0x15, 0x54), /does not end/)
  refuses(t, () => read(0x19, 0xf5, 0xff, 0xff, 0xff, 0x7f), /a list of 268435455 in 0 bytes/)
  refuses(t, () => read(0x18, 0x7f, 1, 2), /a text of 127 bytes where 2 are left/)
  refuses(t, () => read(0x15, ...Array<number>(12).fill(0xff)), /more than 64 bits/)
  refuses(t, () => read(...Array<number>(100).fill(0x1c)), /nested deeper/)
  refuses(t, () => read(0x19, ...Array<number>(100).fill(0x19)), /nested deeper/)
  const header: ThriftStruct = new Map<number, number | boolean | ThriftStruct>([[1, 3], [3, -70_000], [8, new Map<number, number | boolean>([[1, 300], [7, false]])]])
  t.deepEqual(new CompactReader(Uint8Array.from(compactStruct(header))).struct(), header)
})

test('pages that disagree with the footer', async (t) => {
  const handle = await open(join(new URL('../../../fixtures/parquet/', import.meta.url).pathname, 'small-pages.parquet'))
  try {
    const { groups } = await readFooter(handle)
    const of = (name: string): Chunk => groups[0]!.chunks.find(({ leaf }) => leaf.path.join('.') === name)!
    const role = of('messages.list.element.role')
    const content = await readBytes(handle, role.start, role.bytes)
    const budget = { left: 1e6, total: 1e6 }
    t.notThrows(() => cleanChunk(content, role, groups[0]!.rows, budget))
    t.true(budget.left < 1e6)
    refuses(t, () => cleanChunk(content, role, groups[0]!.rows + 1, budget), /83 rows in the column messages\.list\.element\.role instead of 84/)
    refuses(t, () => cleanChunk(content, { ...role, values: role.values + 1 }, groups[0]!.rows, budget), /does not end|dictionar|page/)
    refuses(t, () => cleanChunk(content, { ...role, values: 3 }, groups[0]!.rows, budget), /values in a column of 3|a dictionary of \d+ for 3 values/)
    refuses(t, () => cleanChunk(content, role, groups[0]!.rows, { left: 100, total: 100 }), /unpacks to more than 100 bytes/)
    refuses(t, () => cleanChunk(content, { ...role, leaf: { ...role.leaf, maxDefinition: 1 } }, groups[0]!.rows, budget), /numbers where|level/)
  } finally {
    await handle.close()
  }
})
