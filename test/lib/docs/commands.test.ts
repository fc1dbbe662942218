// Every `npx threefold ...` line of the documentation: the command exists, its flags exist, its required ones are given.
import { existsSync, readFileSync, readdirSync } from 'node:fs'

import test from 'ava'

import { flagName } from '../../../lib/base/options.js'
import { commands } from '../../../lib/cli/commands.js'
import { flagsOf, normalize } from '../../../lib/cli/flags.js'
import { fenced } from './markdown.js'

const commandsOf = (page: string): string[] =>
  ['sh', 'bash']
    .flatMap((language) => fenced(page, language))
    .flatMap((block) => block.replace(/\\\n\s*/g, ' ').split('\n'))
    .map((line) => line.trim().replace(/^\$ /, ''))
    .filter((line) => line.startsWith('npx threefold'))

function complaints(line: string): string[] {
  const [, , command, ...words] = line.split(/\s+(?=(?:[^"]*"[^"]*")*[^"]*$)/)
  const spec = commands.find((c) => c.name === command)
  if (!spec) return [`no command ${command}`]
  const table = flagsOf(spec)
  const given = normalize(words, spec)
    .filter((w) => w.startsWith('--'))
    .map((w) => w.split('=')[0]!)
  const known = Object.keys(table).map(flagName)
  const required = Object.entries(table)
    .filter(([, o]) => !('default' in o))
    .map(([key]) => flagName(key))
  return [
    ...given.filter((flag) => !known.includes(flag) && flag !== '--help').map((flag) => `${command} has no ${flag}`),
    ...required.filter((flag) => !given.includes(flag) && !given.includes('--help')).map((flag) => `${command} needs ${flag}`),
  ]
}

const pages = ['README.md', ...(existsSync('docs') ? readdirSync('docs').map((name) => `docs/${name}`) : [])].filter((p) => p.endsWith('.md'))
const lines = pages.flatMap((path) => commandsOf(readFileSync(path, 'utf8')).map((line) => ({ path, line })))

test('the documentation shows commands', (t) => {
  const shown = new Set(lines.map(({ line }) => line.split(/\s+/)[2]))
  for (const command of ['train', 'sft', 'reward', 'ppo', 'generate', 'score', 'chat', 'init']) t.true(shown.has(command), command)
})

for (const [i, { path, line }] of lines.entries()) {
  test(`${path} (${i}): ${line.slice(0, 80)}`, (t) => {
    t.deepEqual(complaints(line), [])
  })
}

// The check is seen to fail.
const wrong: [line: string, complaint: string][] = [
  ['npx threefold fine-tune --data-path a.jsonl', 'no command fine-tune'],
  ['npx threefold sft --model-name-or-path m --data-path a.jsonl --made-up 1', 'sft has no --made-up'],
  ['npx threefold sft --data-path a.jsonl', 'sft needs --model-name-or-path'],
]
for (const [line, complaint] of wrong) {
  test(`seen to fail: ${line}`, (t) => {
    t.deepEqual(complaints(line), [complaint])
  })
}
