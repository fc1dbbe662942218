// Parquet files, all columns of them, and the pages of every kind that pyarrow writes.
import { readFile } from 'node:fs/promises'

import { parquetFormat } from '../../lib/data/formats/parquet.js'
import type { FuzzTarget } from './target.js'

const forms = ['snappy', 'zstd-groups', 'gzip-v2', 'lz4', 'brotli', 'plain', 'small-pages', 'small-pages-v2', 'delta-v2', 'delta']

export const target: FuzzTarget = {
  name: 'parquet',
  seeds: () => Promise.all(forms.map(async (form) => new Map([[`${form}.parquet`, await readFile(new URL(`../fixtures/parquet/${form}.parquet`, import.meta.url))]]))),
  async read(file) {
    let rows = 0
    for await (const _ of parquetFormat.rows(file, null)) rows++
    return rows
  },
}
