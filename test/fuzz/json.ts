// JSON files: arrays in several layouts, and one object on each line.
import { gzipSync } from 'node:zlib'

import { jsonl, readRows, rows, seed } from './rows.js'
import type { FuzzTarget } from './target.js'

export const target: FuzzTarget = {
  name: 'json',
  seeds: () =>
    Promise.resolve([
      seed('rows.json', JSON.stringify(rows)),
      seed('indented.json', `\ufeff${JSON.stringify(rows, null, 2)}\n`),
      seed('lines.json', jsonl(rows)),
      seed('rows.json.gz', gzipSync(JSON.stringify(rows))),
    ]),
  read: readRows,
}
