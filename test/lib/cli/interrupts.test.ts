// Ctrl-C: the first asks, one that a launcher passes on right behind it counts for nothing, a later one ends the process.
import { spawn } from 'node:child_process'
import { once } from 'node:events'

import test from 'ava'

const script = `
import { Interrupts } from './lib/cli/interrupts.ts'
const interrupts = new Interrupts(() => console.log('said'))
interrupts.install()
const alive = setInterval(() => undefined, 1000)
interrupts.signal.addEventListener('abort', () => setTimeout(() => console.log('alive'), 200))
console.log('ready')
`

async function signalled(waits: readonly number[]): Promise<{ status: number | null; out: string }> {
  const child = spawn(process.execPath, ['--import=tsx', '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  const send = async (): Promise<void> => {
    for (const wait of waits) {
      await new Promise((resolve) => setTimeout(resolve, wait))
      child.kill('SIGINT')
    }
  }
  child.stdout.on('data', (text: Buffer) => {
    out += text.toString()
    if (out === 'ready\n') void send()
  })
  const [status] = (await once(child, 'exit')) as [number | null]
  return { status, out }
}

test('the second Ctrl-C ends the process, the same one passed on does not', async (t) => {
  t.deepEqual(await signalled([0, 20, 800]), { status: 130, out: 'ready\nsaid\nalive\n' })
})
