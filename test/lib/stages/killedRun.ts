// One PPO run in a process of its own, for killed.test.ts to kill: `tsx killedRun.ts OPTIONS_JSON`.
import { ppo } from '../../../lib/stages/ppo.js'

await ppo(JSON.parse(process.argv[2]!) as Parameters<typeof ppo>[0])
