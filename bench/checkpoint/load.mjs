// Seconds from starting a process to the first token of a bf16 checkpoint, beside reading its file cold, and the memory it
// takes at its peak. Both sides begin with the file out of the system's cache (GNU dd drops it).
//   node bench/checkpoint/load.mjs [folder] [runs]      (after `npm run build`)
// Without a folder, or with one that is not there, a LLaMA of some 500 MB is made first.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const folder = process.argv[2] ?? join(mkdtempSync(join(tmpdir(), 'threefold-bench-')), 'model')
const runs = Number(process.argv[3] ?? 5)

if (!existsSync(folder)) {
  const config = join(mkdtempSync(join(tmpdir(), 'threefold-bench-')), 'config.json')
  const numbers = { hidden_size: 1024, intermediate_size: 2816, num_hidden_layers: 16, num_attention_heads: 16, num_key_value_heads: 8, vocab_size: 32000, max_position_embeddings: 2048, tie_word_embeddings: false }
  mkdirSync(dirname(config), { recursive: true })
  writeFileSync(config, JSON.stringify({ model_type: 'llama', architectures: ['LlamaForCausalLM'], bos_token_id: 1, eos_token_id: 2, ...numbers }))
  execFileSync(process.execPath, [join(root, 'dist', 'cli', 'main.js'), 'init', '--config', config, '--output-dir', folder, '--dtype', 'bf16', '--quiet'])
}

const file = join(folder, 'model.safetensors')
const bytes = statSync(file).size
const script = `
  import { Model } from ${JSON.stringify(join(root, 'dist', 'index.js'))}
  const model = await Model.load(${JSON.stringify(folder)}, { dtype: 'bf16' })
  await model.generate(Int32Array.of(5, 6, 7, 8), { maxNewTokens: 1, greedy: true })
  console.log(process.resourceUsage().maxRSS * 1024)
`
const dropCache = () => execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' })
const timed = (work) => {
  dropCache()
  const started = performance.now()
  const result = work()
  return { seconds: (performance.now() - started) / 1000, result }
}
const read = () => execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=4M'], { stdio: 'ignore' })
const load = () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return Number(stdout)
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1]
const reads = []
const loads = []
const peaks = []
for (let i = 0; i < runs; i++) {
  reads.push(timed(read).seconds)
  const { seconds, result } = timed(load)
  loads.push(seconds)
  peaks.push(result)
}
// without a model: what Node itself takes, which is no part of the checkpoint
const bare = Number(spawnSync(process.execPath, ['-e', 'console.log(process.resourceUsage().maxRSS * 1024)'], { encoding: 'utf8' }).stdout)
const round = (x) => Number(x.toFixed(3))
const allowed = 1.5 * median(reads) + 1
console.log(
  JSON.stringify({
    bench: 'checkpoint to first token',
    bytes,
    runs,
    coldReadSeconds: reads.map(round),
    firstTokenSeconds: loads.map(round),
    medians: { coldRead: round(median(reads)), firstToken: round(median(loads)), allowed: round(allowed), ofAllowed: round(median(loads) / allowed) },
    peakBytes: median(peaks),
    bareNodeBytes: bare,
    peakOfFile: round(median(peaks) / bytes),
  }),
)
