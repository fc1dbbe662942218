// Every reader that is fuzzed: by test/lib/fuzz.test.ts in small numbers, by `npm run fuzz` in large ones.
import { checkpointTargets } from './checkpointTargets.js'
import type { FuzzTarget } from './target.js'

export const targets: readonly FuzzTarget[] = [...checkpointTargets]
