// Ctrl-C: the first asks the work to save and stop, the second ends the process.
import { Interrupted } from '../base/errors.js'

/** A terminal's Ctrl-C reaches the whole group of processes, and a launcher among them may pass it on once more. */
const sameKeyMs = 500

export class Interrupts {
  #controller = new AbortController()
  #handlers: (() => void)[] = []
  #installed = false
  #firstAt = 0

  /** `said`: called at the first Ctrl-C, when the work goes on to a place where it can stop. */
  constructor(private readonly said: () => void = () => undefined) {}

  /** Aborts at the first Ctrl-C or SIGTERM. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  install(): void {
    if (this.#installed) return
    this.#installed = true
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, this.interrupt)
  }

  /** Also called by a terminal that takes Ctrl-C as a key. */
  readonly interrupt = (): void => {
    const handler = this.#handlers.at(-1)
    if (handler) return handler()
    if (this.signal.aborted) {
      if (performance.now() - this.#firstAt < sameKeyMs) return
      process.exit(130)
    }
    this.#firstAt = performance.now()
    this.#controller.abort(new Interrupted(null))
    this.said()
  }

  /** While the result is in use, Ctrl-C calls `handler` and stops nothing else. */
  divert(handler: () => void): Disposable {
    this.#handlers.push(handler)
    return { [Symbol.dispose]: () => void (this.#handlers = this.#handlers.filter((h) => h !== handler)) }
  }

  dispose(): void {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, this.interrupt)
    this.#installed = false
  }
}
