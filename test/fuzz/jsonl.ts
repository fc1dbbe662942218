// JSONL files, plain and gzip.
import { gzipSync } from 'node:zlib'

import { jsonl, readRows, rows, seed } from './rows.js'
import type { FuzzTarget } from './target.js'

export const target: FuzzTarget = {
  name: 'jsonl',
  seeds: () => Promise.resolve([seed('rows.jsonl', jsonl(rows)), seed('marked.jsonl', `\ufeff${jsonl(rows).replaceAll('\n', '\r\n\r\n')}`), seed('rows.jsonl.gz', gzipSync(jsonl(rows)))]),
  read: readRows,
}
