// Builds the module of a device beside the addon: `node scripts/backend.mjs emulated|cuda`. A rerun with nothing changed does
// nothing.
import { buildBackend, stop } from './native.mjs'

const kind = process.argv[2]
if (kind !== 'emulated' && kind !== 'cuda') stop('build', 'emulated or cuda', kind ?? 'nothing', '`npm run build:emulated` or `npm run build:cuda`')
const { seconds } = await buildBackend(kind)
console.error(`threefold: ${kind} device ${seconds ? `built in ${seconds.toFixed(1)} s` : 'up to date'}`)
