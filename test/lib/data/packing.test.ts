import test from 'ava'
import fc from 'fast-check'
import { noTarget, packByTokens, packRows, splitPacked, unpackRows } from '../../../lib/data/packing.js'
import { previewAnswers, previewPrompt, previewRow } from '../../../lib/data/preview.js'
import type { TokenRow } from '../../../lib/data/records.js'
import { rankedRowCodec, rowList, tokenRowCodec } from '../../../lib/data/rowList.js'
import { eosId, failsWith, tinyTokenizer } from './support.js'

const anyRow = fc
  .array(fc.tuple(fc.nat(1000), fc.integer({ min: 0, max: 1 })), { minLength: 1, maxLength: 20 })
  .map((tokens): TokenRow => ({
    ids: Int32Array.from(tokens, ([id]) => id),
    counted: Uint8Array.from(tokens, ([, counted], position) => (position === 0 ? 0 : counted)),
  }))
const listOf = (rows: readonly TokenRow[]) => rowList(rows, tokenRowCodec)
const rowOf = (ids: number[], counted: number[]): TokenRow => ({ ids: Int32Array.from(ids), counted: Uint8Array.from(counted) })

test('a packed batch in numbers', (t) => {
  const batch = packRows([rowOf([5, 6, 7], [0, 0, 1]), rowOf([8], [0]), rowOf([9, 4], [0, 1])])
  t.deepEqual([...batch.ids], [5, 6, 7, 8, 9, 4])
  t.deepEqual([...batch.starts], [0, 3, 4, 6])
  t.deepEqual([...batch.positions], [0, 1, 2, 0, 0, 1])
  t.deepEqual([...batch.counted], [0, 0, 1, 0, 0, 1])
  t.deepEqual([...batch.targets], [6, 7, noTarget, noTarget, 4, noTarget])
  t.deepEqual([...batch.targetCounted], [0, 1, 0, 0, 1, 0])
  t.deepEqual([...batch.countedPositions], [1, 4])
  t.is(batch.countedTotal, 2)
})

test('packing loses nothing and counts what the rows count', (t) => {
  fc.assert(
    fc.property(fc.array(anyRow, { minLength: 1, maxLength: 8 }), (rows) => {
      const batch = packRows(rows)
      t.deepEqual(unpackRows(batch), rows)
      t.is(
        batch.countedTotal,
        rows.reduce((sum, row) => sum + row.counted.filter((one) => one === 1).length, 0),
      )
      for (const position of batch.countedPositions) t.is(batch.targets[position], batch.ids[position + 1])
      for (const [b, positions] of splitPacked(batch.positions, batch.starts).entries()) {
        t.deepEqual([...positions], Array.from(rows[b]!.ids.keys()))
      }
    }),
  )
})

test('packs by tokens keep the order and the limit, and none could take one more row', (t) => {
  fc.assert(
    fc.property(fc.array(anyRow, { maxLength: 30 }), fc.integer({ min: 20, max: 60 }), (rows, maxTokens) => {
      const packs = packByTokens(listOf(rows), maxTokens)
      const tokens = (pack: Int32Array): number => pack.reduce((sum, row) => sum + rows[row]!.ids.length, 0)
      t.deepEqual(
        packs.flatMap((pack) => [...pack]),
        Array.from(rows.keys()),
      )
      for (const [index, pack] of packs.entries()) {
        t.true(pack.length > 0 && tokens(pack) <= maxTokens)
        const next = packs[index + 1]
        if (next !== undefined) t.true(tokens(pack) + rows[next[0]!]!.ids.length > maxTokens)
      }
    }),
  )
})

test('what cannot be packed is an error', async (t) => {
  await failsWith(t, () => packRows([]), 'at least one row')
  await failsWith(t, () => packRows([rowOf([1], [0]), rowOf([], [])]), 'place 1')
  await failsWith(t, () => packByTokens(listOf([rowOf([1, 2, 3], [0, 1, 1])]), 2), 'at most 2', '3 tokens in row 0')
})

test('a preview shows what counts', (t) => {
  const tokenizer = tinyTokenizer()
  const ids = [...tokenizer.encode('hi\n', { special: false }), ...tokenizer.encode('yo', { special: false }), eosId]
  const row = rowOf(ids, [0, 0, 0, 1, 1, 1])
  t.is(previewRow(row, { tokenizer, color: false }), '6 tokens, 3 count: hi\\n⟦yo</s>⟧')
  t.is(previewRow(row, { tokenizer, color: true }), '6 tokens, 3 count: hi\\n\u001b[32myo</s>\u001b[39m')
  t.is(previewRow(rowOf([4, 5, 6], [0, 1, 1]), { tokenizer: null, color: false }), '3 tokens, 2 count: 4 ⟦5 6⟧')
  t.is(previewPrompt({ ids: Int32Array.of(4, 5) }, { tokenizer: null, color: false }), '2 tokens: 4 5')
  const names = (ranks: number[]): string[] => previewAnswers(rankedRowCodec)({ answers: ranks.map(() => row), ranks, margin: 0 }, { tokenizer, color: false }).split('\n').map((line) => line.replace(/6 tokens.*/, ''))
  t.deepEqual(names([0, 1]), ['chosen   ', 'rejected '])
  t.deepEqual(names([0, 0]), ['rank 1 ', 'rank 1 '], 'a tie')
  t.deepEqual(names([0, 1, 1]), ['rank 1 ', 'rank 2 ', 'rank 2 '])
})
