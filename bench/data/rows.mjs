// Seconds from a JSONL file of preference rows to token rows: in one thread, in two workers, and read back from disk.
//   node bench/data/rows.mjs MODEL ROWS [runs]      (after `npm run build`)
// MODEL holds a tokenizer. ROWS is written ten times in a row to a temporary file, so that a small set can be used.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { openStageData } from '../../dist/data/stageData.js'
import { stageRows } from '../../dist/data/stageRows.js'
import { pairKind } from '../../dist/data/tokenize.js'
import { Tokenizer } from '../../dist/data/tokenizer.js'

const [model, rows, runs = '5'] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), 'threefold-bench-'))
const file = join(folder, 'rows.jsonl')
const once = rows.endsWith('.gz') ? gunzipSync(readFileSync(rows)) : readFileSync(rows)
writeFileSync(file, Buffer.concat(Array(10).fill(once)))
readFileSync(file) // into the system's cache
const bytes = statSync(file).size
const tokenizer = await Tokenizer.load(model)
const data = { dataPath: [file], dataWeights: null, dataSplit: null, columns: null, evalDataPath: [], evalFraction: 0.05, seed: 1 }

const time = async (options) => {
  const started = performance.now()
  const { train, cached } = await stageRows(await openStageData(data, 2), pairKind, { tokenizer, vocabSize: tokenizer.vocabSize, maxSeqLen: 1024, seed: 1, ...options })
  train.dispose()
  return { seconds: (performance.now() - started) / 1000, cached, rows: train.length }
}
const cache = { folder: join(folder, 'tokens'), always: true }
const kinds = { 'one thread': { threads: 1, cache: null }, 'two workers': { threads: 2, cache: null }, 'read back': { threads: 2, cache } }
await time(kinds['read back'])
const seconds = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, []]))
for (let i = 0; i < Number(runs); i++)
  for (const [kind, options] of Object.entries(kinds)) {
    const run = await time(options)
    if (run.cached !== (kind === 'read back')) throw new Error(`${kind}: cached ${run.cached}`)
    seconds[kind].push(run.seconds)
  }
const round = (x) => Number(x.toFixed(3))
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1]
const medians = Object.fromEntries(Object.entries(seconds).map(([kind, list]) => [kind, { seconds: round(median(list)), 'MB/s': round(bytes / 1e6 / median(list)) }]))
console.log(JSON.stringify({ bench: 'rows of a file to token rows', bytes, runs: Number(runs), medians, all: Object.fromEntries(Object.entries(seconds).map(([kind, list]) => [kind, list.map(round)])) }))
rmSync(folder, { recursive: true, force: true })
