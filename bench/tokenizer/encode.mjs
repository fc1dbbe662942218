// Encoding speed, ours and that of Python `tokenizers` (Rust) in turns on the same texts: MB/s and their ratio.
//   node bench/tokenizer/encode.mjs FOLDER TEXTS [--threads N] [--passes N] [--python PATH]      (after `npm run build`)
// FOLDER holds a tokenizer.json. TEXTS is JSONL (.gz or not), of which every string in a row is a text, or any other
// file, of which every line is one. --python names an interpreter with `tokenizers`; without it only ours is measured.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { gunzipSync } from 'node:zlib'

import { Tokenizer } from '../../dist/data/tokenizer.js'

const peerScript = fileURLToPath(new URL('../peers/tokenizers.py', import.meta.url))
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1]
const round = (x) => Number(x.toFixed(2))

function textsOf(file) {
  const bytes = readFileSync(file)
  const lines = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').split('\n').filter((line) => line !== '')
  if (!/\.jsonl(\.gz)?$/.test(file)) return lines
  return lines.flatMap((line) => Object.values(JSON.parse(line)).filter((value) => typeof value === 'string'))
}

/** Contiguous shares of about the same number of bytes. */
function shares(texts, count) {
  const total = texts.reduce((sum, text) => sum + text.length, 0)
  const parts = Array.from({ length: count }, () => [])
  let done = 0
  for (const text of texts) {
    parts[Math.min(count - 1, Math.floor((done * count) / total))].push(text)
    done += text.length
  }
  return parts
}

function encodeAll(tokenizer, texts) {
  let tokens = 0
  for (const text of texts) tokens += tokenizer.encode(text, { special: false }).length
  return tokens
}

async function startWorker(folder, texts) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { folder, texts } })
  worker.once('error', (error) => { throw error })
  const answer = () => new Promise((resolve) => worker.once('message', resolve))
  await answer()
  return { pass: () => (worker.postMessage('pass'), answer()), stop: () => worker.terminate() }
}

async function ours(folder, texts, threads) {
  if (threads === 1) {
    const tokenizer = await Tokenizer.load(folder)
    return { pass: async () => encodeAll(tokenizer, texts), stop: () => {} }
  }
  const workers = await Promise.all(shares(texts, threads).map((share) => startWorker(folder, share)))
  return {
    pass: async () => (await Promise.all(workers.map(({ pass }) => pass()))).reduce((sum, tokens) => sum + tokens, 0),
    stop: () => Promise.all(workers.map(({ stop }) => stop())),
  }
}

function peer(python, folder, texts, threads) {
  const env = { ...process.env, RAYON_NUM_THREADS: String(threads), TOKENIZERS_PARALLELISM: String(threads > 1) }
  const child = spawn(python, [peerScript, join(folder, 'tokenizer.json')], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  child.stdin.write(`${JSON.stringify(texts)}\n`)
  return {
    async pass(call) {
      child.stdin.write(`${call}\n`)
      const { value, done } = await lines.next()
      if (done) throw new Error('[bench] expected a line from the Python process, received none. Try running it by hand.')
      return JSON.parse(value)
    },
    stop: () => child.stdin.end(),
  }
}

async function main() {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { threads: { type: 'string', default: '1' }, passes: { type: 'string', default: '7' }, python: { type: 'string' } },
  })
  const [folder, file] = positionals
  if (file === undefined) throw new Error('[bench] expected FOLDER and TEXTS, received fewer. Try node bench/tokenizer/encode.mjs model/ rows.jsonl.')
  const threads = Number(values.threads)
  const passes = Number(values.passes)
  const texts = textsOf(file)
  const megabytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0) / 1e6
  const engine = await ours(folder, texts, threads)
  const other = values.python === undefined ? null : peer(values.python, folder, texts, threads)
  const speeds = { ours: [], encode_batch: [], encode_batch_fast: [] }
  const first = {}
  let tokens = 0
  // The first pass warms caches and compilers of both and does not count.
  for (let pass = 0; pass <= passes; pass++) {
    const started = performance.now()
    tokens = await engine.pass()
    const seconds = (performance.now() - started) / 1000
    if (pass > 0) speeds.ours.push(megabytes / seconds)
    else first.ours = round(megabytes / seconds)
    for (const call of other === null ? [] : ['encode_batch', 'encode_batch_fast']) {
      const answer = await other.pass(call)
      if (answer.tokens !== tokens) throw new Error(`[bench] expected ${tokens} tokens from both, received ${answer.tokens}. Try the same tokenizer.`)
      if (pass > 0) speeds[call].push(megabytes / answer.seconds)
      else first[call] = round(megabytes / answer.seconds)
    }
  }
  await engine.stop()
  other?.stop()
  const medians = Object.fromEntries(Object.entries(speeds).filter(([, list]) => list.length > 0).map(([name, list]) => [name, round(median(list))]))
  console.log(
    JSON.stringify({
      bench: 'tokenizer encode',
      threads,
      passes,
      texts: texts.length,
      megabytes: round(megabytes),
      tokens,
      sha256: createHash('sha256').update(texts.join('\n')).digest('hex').slice(0, 16),
      megabytesPerSecond: medians,
      firstPass: first,
      ...(other === null ? {} : { ratio: { encode_batch: round(medians.ours / medians.encode_batch), encode_batch_fast: round(medians.ours / medians.encode_batch_fast) } }),
      all: Object.fromEntries(Object.entries(speeds).map(([name, list]) => [name, list.map(round)])),
    }),
  )
}

if (isMainThread) await main()
else {
  const { folder, texts } = workerData
  const tokenizer = await Tokenizer.load(folder)
  parentPort.on('message', () => parentPort.postMessage(encodeAll(tokenizer, texts)))
  parentPort.postMessage('ready')
}
