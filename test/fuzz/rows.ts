// Rows of every shape in the text formats, for the fuzz targets of those.
import { readDataset } from '../../lib/data/readers.js'

export const rows: readonly Record<string, unknown>[] = [
  { prompt: 'a question, "quoted"', chosen: 'gut, säule\n', rejected: '月 😀' },
  { prompt: 'p', response: 'r' },
  { text: 'x'.repeat(300) },
  { messages: [{ role: 'user', content: 'hi' }, { role: 'assistant', content: 'hello \\ \u0007' }] },
  { chosen: 'Human: a\n\nAssistant: yes', rejected: 'Human: a\n\nAssistant: no' },
  { input_ids: [1, 2, 3, 2147483647], labels: [-100, 2, 3, -100] },
]

export const jsonl = (list: readonly unknown[]): string => list.map((row) => `${JSON.stringify(row)}\n`).join('')

/** A seed of one file. */
export const seed = (name: string, content: string | Uint8Array): Map<string, Uint8Array> => new Map([[name, Buffer.from(content)]])

export const readRows = (file: string): Promise<unknown> => readDataset(file)
