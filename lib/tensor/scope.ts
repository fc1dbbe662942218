// Memory has an owner: what a scope holds is freed when the scope ends, not when the garbage collector comes by.

export interface Disposes {
  dispose(): void
}

/**
 * `using scope = new Scope()`, then `scope.own(tensor)` for everything that must not outlive the block.
 * Ops already enqueued keep the memory they read until they have run.
 */
export class Scope implements Disposable {
  #held = new Set<Disposes>()

  own<T extends Disposes>(thing: T): T {
    this.#held.add(thing)
    return thing
  }

  /** Hands a thing to the caller: this scope no longer frees it. */
  keep<T extends Disposes>(thing: T): T {
    this.#held.delete(thing)
    return thing
  }

  dispose(): void {
    for (const thing of this.#held) thing.dispose()
    this.#held.clear()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Runs `body` with a fresh scope and frees what it owns afterwards, also when it throws. */
export async function tensorScope<T>(body: (scope: Scope) => Promise<T> | T): Promise<T> {
  const scope = new Scope()
  try {
    return await body(scope)
  } finally {
    scope.dispose()
  }
}
