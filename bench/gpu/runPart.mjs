// One part of the check: a command in a process group of its own, its output in a file, its end within its time.
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'

import { root } from './library.mjs'

/**
 * Runs a part's command and reads what it printed. `part.read(stdout)` gives { figure, result }, and { problem } where
 * what it printed says so. Never rejects.
 */
export async function runPart(part, context) {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  try {
    const reason = await part.skip?.()
    if (reason) return { status: 'skipped', seconds: seconds(), figure: reason }
    const limit = Math.min(part.limit, context.left())
    if (limit < 5) return { status: 'FAILED', seconds: 0, figure: 'no time was left for it' }
    const ran = await runCommand(part, context, limit)
    const { figure, result, problem } = reading(part, ran.stdout) // what failed may still have printed what it found before
    const wrong = problem && /^exit status/.test(ran.problem ?? '') ? [problem] : [ran.problem, problem].filter(Boolean)
    return { status: wrong.length ? 'FAILED' : 'ok', seconds: seconds(), figure: [...wrong, figure].filter(Boolean).join('; '), result }
  } catch (error) {
    return { status: 'FAILED', seconds: seconds(), figure: error.message }
  }
}

function reading(part, stdout) {
  try {
    return part.read(stdout)
  } catch (error) {
    return { problem: stdout.trim() ? `output that is not understood (${error.message})` : undefined }
  }
}

/** The output of one command, and in one line what was wrong with its end. */
function runCommand({ name, command, env = {} }, { work }, limit) {
  const log = createWriteStream(join(work, `${name}.log`))
  return new Promise((done) => {
    const child = spawn(command[0], command.slice(1), { cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    let stdout = ''
    let lastError = ''
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL')
    }, 1000 * limit)
    child.stdout.on('data', (chunk) => {
      stdout += chunk
      log.write(chunk)
    })
    child.stderr.on('data', (chunk) => {
      lastError = (lastError + chunk).slice(-4000)
      log.write(chunk)
    })
    const end = (problem) => {
      clearTimeout(timer)
      log.end(() => done({ stdout, problem }))
    }
    child.on('error', (error) => end(error.message))
    child.on('close', (status, signal) => {
      if (late) return end(`stopped after ${Math.round(limit)} s`)
      if (status === 0) return end(undefined)
      const said = lastError.trim().split('\n').filter((line) => /^\[|Error|error/.test(line.trim())).at(-1)?.trim()
      end(said ?? (signal ? `ended by ${signal}` : `exit status ${status}`))
    })
  })
}

/** The GPU's clock, power and temperature while a part runs, every two seconds. */
export class Clocks {
  #child = null
  #rows = []

  start() {
    this.#rows = []
    this.#child = spawn('nvidia-smi', ['--query-gpu=clocks.sm,power.draw,temperature.gpu', '--format=csv,noheader,nounits', '-l', '2'], { stdio: ['ignore', 'pipe', 'ignore'] })
    this.#child.on('error', () => undefined) // none on this machine
    this.#child.stdout?.on('data', (chunk) => {
      for (const line of String(chunk).trim().split('\n')) this.#rows.push(line.split(',').map(Number))
    })
  }

  stop() {
    this.#child?.kill()
    const range = (column) => {
      const values = this.#rows.map((row) => row[column]).filter(Number.isFinite)
      return values.length ? { least: Math.min(...values), most: Math.max(...values) } : null
    }
    return { smMHz: range(0), watts: range(1), celsius: range(2) }
  }
}
