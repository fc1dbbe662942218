// The list of commands. Only option tables are loaded here; what a command does is loaded when it runs.
import type { CommandSpec } from './command.js'
import { convert, init, inspect } from './checkpoints.js'
import { demo } from './demo.js'
import { doctor } from './doctor.js'
import { evaluate } from './eval.js'
import { label } from './label.js'
import { dpo, pretrain, ppo, resumeCheck, reward, sft, train } from './training.js'
import { chat, generate, score } from './using.js'

export const commands: readonly CommandSpec[] = [demo, train, pretrain, sft, reward, dpo, ppo, resumeCheck, generate, chat, score, evaluate, label, inspect, convert, init, doctor]

/** Names that are promised; each is refused by name until it is there. */
export const laterCommands = ['serve', 'plan', 'launch', 'bench'] as const
