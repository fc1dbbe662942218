// The live progress line: rewritten in place on a terminal, plain lines now and then elsewhere, nothing when quiet.
export interface ProgressOutput {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

const PLAIN_INTERVAL_MS = 10_000
const LIVE_INTERVAL_MS = 100

/** 75 -> "1:15", 3700 -> "1:01:40" */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  const two = (n: number): string => String(n).padStart(2, '0')
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`
}

export class Progress {
  #started = Date.now()
  /** Of the work: what was done before the clock started. */
  #before = 0
  #lastShown = 0
  #live = false

  constructor(
    private readonly output: ProgressOutput,
    private readonly quiet = false,
  ) {}

  /** A new bar: the clock for "time left" starts now, with `done` of the work done already. */
  start(done = 0): void {
    this.#started = Date.now()
    this.#before = done
    this.#lastShown = 0
  }

  /** `fields` as "loss 2.31"; shown at most ten times a second, or every ten seconds when not on a terminal. */
  update(label: string, done: number, total: number, fields: string[]): void {
    if (this.quiet) return
    const now = Date.now()
    const last = done >= total
    if (!last && now - this.#lastShown < (this.output.isTTY ? LIVE_INTERVAL_MS : PLAIN_INTERVAL_MS)) return
    this.#lastShown = now
    const elapsed = (now - this.#started) / 1000
    const left = done > this.#before ? ` left ${clock((elapsed / (done - this.#before)) * (total - done))}` : ''
    const line = `${label} ${done}/${total}  ${fields.join('  ')} ${last ? ` took ${clock(elapsed)}` : left}`
    if (!this.output.isTTY) {
      this.output.write(line + '\n')
      return
    }
    this.output.write(`\r\x1b[K${line.slice(0, (this.output.columns || 80) - 1)}`)
    this.#live = true
    if (last) this.end()
  }

  /** A line that stays. */
  note(text: string): void {
    if (this.quiet) return
    this.end()
    this.output.write(text + '\n')
  }

  /** What others write next begins a line of its own. */
  end(): void {
    if (this.#live) this.output.write('\n')
    this.#live = false
  }
}

/** A number in about four figures. */
export function short(x: number): string {
  if (!Number.isFinite(x)) return String(x)
  const a = Math.abs(x)
  return a !== 0 && (a < 1e-3 || a >= 1e5) ? x.toExponential(2) : a >= 100 ? x.toFixed(0) : x.toPrecision(4)
}

/** 0.547 -> "54.7 %" */
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
