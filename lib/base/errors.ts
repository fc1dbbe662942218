// The one error shape: `[where] expected X, received Y. Try Z.`

/** What went wrong and what to do about it. `--json` prints `{error: {where, expected, received, try}}`. */
export class ThreefoldError extends Error {
  readonly code: string = 'THREEFOLD'
  constructor(
    readonly where: string,
    readonly expected: string,
    readonly received: string,
    readonly cure: string,
    options?: ErrorOptions,
  ) {
    super(`[${where}] expected ${expected}, received ${received}. Try ${cure}.`, options)
    this.name = 'ThreefoldError'
  }

  toJSON(): { error: { where: string; expected: string; received: string; try: string } } {
    return { error: { where: this.where, expected: this.expected, received: this.received, try: this.cure } }
  }
}

/** Wrong usage of the command line: exit status 2. */
export class UsageError extends ThreefoldError {
  override readonly code = 'USAGE'
  override readonly name = 'UsageError'
}

/** Stopped by Ctrl-C or SIGTERM after saving: exit status 130. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
  constructor(readonly saved: string | null) {
    super(saved ? `stopped; what was done so far is in ${saved}` : 'stopped')
  }
}

export function fail(where: string, expected: string, received: string, cure: string): never {
  throw new ThreefoldError(where, expected, received, cure)
}

/** Any thrown thing as a ThreefoldError: system errors are put in words. */
export function asThreefoldError(error: unknown, where: string): ThreefoldError {
  if (error instanceof ThreefoldError) return error
  const e: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error))
  const cures: Record<string, string> = {
    ENOENT: 'checking the path',
    EACCES: 'a path you may read and write',
    EROFS: 'a folder that is not read-only',
    ENOSPC: 'freeing space on the disk',
    ENOTDIR: 'checking the path',
    EISDIR: 'naming a file, not a folder',
  }
  return new ThreefoldError(where, 'the operation to succeed', e.message, cures[e.code ?? ''] ?? 'running again; if it stays, report it as a bug', {
    cause: error,
  })
}
