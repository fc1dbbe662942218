// What the parts of the check have printed: a figure for the table, what is wrong with it, and what the JSON keeps.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const lastJson = (stdout) => JSON.parse(stdout.trim().split('\n').at(-1))
const jsonLines = (stdout) => stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
const percent = (x) => `${(100 * x).toFixed(1)} %`
const number = (x) => Math.round(x).toLocaleString('en')
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`

/** On the CPU, whose every run gives the same (README.md). */
const goldOnCpu = { base: 0.128, sft: 0.743, ppo: 0.925 }
/** Other roundings lead training elsewhere: a device learns the task when it comes this far. */
const goldBounds = { sft: 0.6, ppo: 0.85 }

export function readFacts(stdout) {
  const facts = lastJson(stdout)
  const { devices, gpus } = facts
  const gpu = gpus?.[0] && `, driver ${gpus[0].driver_version}, ${gpus[0]['clocks.sm']} of ${gpus[0]['clocks.max.sm']}`
  return { figure: `${devices.map((d) => `${d.name} ${d.architecture}${d.memoryBytes ? ` ${gigabytes(d.memoryBytes)}` : ''}`).join(', ')}${gpu ?? ''}`, result: facts }
}

const tests = (passed, failures) => ({
  figure: `${passed} passed, ${failures.length} failed`,
  problem: failures.length ? failures.join('; ') : passed ? undefined : 'no test ran',
  result: { passed, failures },
})

export function readNativeTests(stdout) {
  const refused = stdout.split('\n').find((line) => line.startsWith('[')) // by the device
  const failures = [...stdout.matchAll(/^FAILED (\S+)/gm)].map((m) => m[1])
  const read = tests(Number(/(\d+) passed/.exec(stdout)?.[1] ?? 0), refused ? [refused] : failures)
  return { ...read, result: { ...read.result, devices: [...stdout.matchAll(/^device (.*)$/gm)].map((m) => m[1]) } }
}

export function readTap(stdout) {
  const all = [...stdout.matchAll(/^(not )?ok \d+ - (.*)$/gm)].map((m) => ({ name: m[2], good: !m[1] && !/ # (SKIP|TODO)/i.test(m[2]) }))
  return tests(all.filter((test) => test.good).length, all.filter((test) => !test.good).map((test) => test.name))
}

export function readDemo(stdout, work, quick) {
  const { error, gold, gains, kl, rewardAccuracy, times, seconds } = JSON.parse(stdout)
  if (error) return { problem: `[${error.where}] expected ${error.expected}, received ${error.received}. Try ${error.try}.` }
  const metrics = jsonLines(readFileSync(join(work, 'demo', 'ppo', 'metrics.jsonl'), 'utf8'))
  const gap = Math.max(...metrics.map((m) => m['rollout/logprob_gap_max'] ?? 0))
  const figure = `right and polite: base ${percent(gold.base)}, sft ${percent(gold.sft)}, ppo ${percent(gold.ppo)}; largest gap of log-probs ${gap}; ${seconds.toFixed(0)} s`
  const learnt = quick || (gold.sft >= goldBounds.sft && gold.ppo >= goldBounds.ppo)
  const problem = gap !== 0 ? 'recorded and recomputed log-probs differ' : learnt ? undefined : `less learnt than sft ${percent(goldBounds.sft)} and ppo ${percent(goldBounds.ppo)}`
  return { figure, problem, result: { gold, goldOnCpu, gains, kl, rewardAccuracy, gap, times, seconds } }
}

export function readLadder(stdout, work) {
  const rungs = jsonLines(stdout)
  writeFileSync(join(work, 'ladder.jsonl'), rungs.map((rung) => JSON.stringify(rung) + '\n').join(''))
  const errors = rungs.filter((rung) => rung.error)
  const copy = rungs.find((rung) => rung.kernel === 'copy' && !rung.error)
  const best = Math.max(...rungs.filter((rung) => rung.kernel.startsWith('matmul') && !rung.error).map((rung) => rung.tflops))
  const figure = `${rungs.length} rungs, copy ${number(copy?.gbps ?? 0)} GB/s, matmul ${best.toPrecision(3)} TFLOP/s`
  return { figure, problem: errors.length ? `${errors.length} rungs, first ${errors[0].kernel}: ${errors[0].error}` : undefined, result: rungs }
}

/** Puts PyTorch's seconds beside the ladder's. */
export function readTorch(stdout, ladderFile) {
  const [about, ...lines] = jsonLines(stdout)
  const ladder = jsonLines(readFileSync(ladderFile, 'utf8'))
  const key = (rung) => [rung.kernel, rung.model, rung.shape].join(' ')
  const ours = new Map(ladder.map((rung) => [key(rung), rung]))
  const both = lines.filter((line) => line.seconds && ours.get(key(line))?.seconds)
  for (const line of both) {
    line.ours = ours.get(key(line)).seconds
    line.timesAsFast = line.seconds / line.ours
  }
  if (both.length === 0) return { problem: 'no rung in common with the ladder' }
  const sorted = both.map((line) => line.timesAsFast).sort((a, b) => a - b)
  const slowest = both.reduce((a, b) => (a.timesAsFast < b.timesAsFast ? a : b))
  return { figure: `${both.length} rungs, median ${sorted[sorted.length >> 1].toFixed(2)} times as fast as PyTorch ${about.torch}, least ${slowest.timesAsFast.toFixed(2)} (${slowest.kernel} ${slowest.model} ${slowest.shape})`, result: { ...about, rungs: lines } }
}

export function readRealSize(stdout) {
  const result = lastJson(stdout)
  const { training, rollouts, ppo } = result
  const rolled = rollouts.map((r) => `${number(r.tokensPerSecond)} at ${r.batch}`).join(', ')
  return { figure: `training ${number(training.tokensPerSecond)} tokens/s (${percent(training.shareOfMatmul)} of matmul), rollouts ${rolled} tokens/s, PPO step ${ppo.seconds.toFixed(2)} s, peak ${gigabytes(ppo.peakBytes.total)}`, result }
}

export function readLargest(stdout) {
  const result = lastJson(stdout)
  const { rollout, actor, layers } = result
  const seconds = rollout.rolloutSeconds + rollout.experienceSeconds + rollout.critic.seconds
  return { figure: `experience with ${rollout.layers} of ${layers} layers ${seconds.toFixed(1)} s, peak ${gigabytes(rollout.peakBytes.total)}; actor step with ${actor.layers} layers ${actor.seconds.toFixed(1)} s, peak ${gigabytes(actor.peakBytes.total)}`, result }
}
