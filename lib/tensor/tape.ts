// Autograd over coarse ops. A decoder is a chain (embedding, layers, final norm, head), so the tape is a list of
// backward steps: each takes the gradient of its output, adds to its parameters' gradients, and gives the gradient
// of its input.
import type { Tensor } from './device.js'
import { Scope } from './scope.js'
import type { Disposes } from './scope.js'

/** Gradient of an op's output in, gradient of its input out (null where the chain ends). */
export type BackwardStep = (dout: Tensor) => Tensor | null

export class Tape implements Disposable {
  #steps: BackwardStep[] = []
  #saved = new Scope()

  /** What backward will read; freed with the tape. */
  save<T extends Disposes>(thing: T): T {
    return this.#saved.own(thing)
  }

  record(step: BackwardStep): void {
    this.#steps.push(step)
  }

  /** Runs the steps in reverse from `dout`, which is consumed; the tape is then empty. */
  backward(dout: Tensor): void {
    let gradient: Tensor | null = dout
    try {
      for (const step of this.#steps.reverse()) {
        if (!gradient) break
        const below: Tensor | null = step(gradient)
        gradient.dispose()
        gradient = below
      }
    } finally {
      gradient?.dispose()
      this.dispose()
    }
  }

  dispose(): void {
    this.#steps = []
    this.#saved.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
