// CSV files with quotes, line ends inside values, a byte order mark and both kinds of line ends.
import { gzipSync } from 'node:zlib'

import { readRows, seed } from './rows.js'
import type { FuzzTarget } from './target.js'

const plain = 'prompt,chosen,rejected,source\nwhat,"yes, it is","no ""way""\nat all",\nsäule,月,😀,web\n'

export const target: FuzzTarget = {
  name: 'csv',
  seeds: () => Promise.resolve([seed('rows.csv', plain), seed('marked.csv', `\ufeff${plain.replaceAll('\n', '\r\n')}\r\n`), seed('rows.csv.gz', gzipSync(plain))]),
  read: readRows,
}
