// What the demo writes before it trains: the world's rows, the tokenizer, the model's config.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import { writeFileAtomic, writeJson } from '../base/files.js'
import { trainBpe } from './bpe.js'
import { plan } from './plan.js'
import type { World } from './world.js'

export interface DemoFiles {
  pretrain: string
  preference: string
  prompts: string
  /** Folder with config.json and tokenizer files, no weights yet. */
  blueprint: string
}

const jsonl = (rows: readonly object[]): string => rows.map((r) => JSON.stringify(r) + '\n').join('')

export async function writeDemoFiles(world: World, folder: string): Promise<DemoFiles> {
  const files = {
    pretrain: join(folder, 'data', 'pretrain.jsonl'),
    preference: join(folder, 'data', 'preference.jsonl'),
    prompts: join(folder, 'data', 'test-prompts.jsonl'),
    blueprint: join(folder, 'blueprint'),
  }
  await mkdir(join(folder, 'data'), { recursive: true })
  await mkdir(files.blueprint, { recursive: true })
  await writeFileAtomic(files.pretrain, jsonl(world.pretrainTexts.map((text) => ({ text }))))
  await writeFileAtomic(files.preference, jsonl(world.preferenceRows))
  await writeFileAtomic(files.prompts, jsonl(world.testPrompts.map((prompt) => ({ prompt }))))
  const { tokenizer, config, vocabSize } = trainBpe(world.pretrainTexts, plan.vocabSize)
  const vocab = tokenizer['model'] as { vocab: Record<string, number> }
  const id = (token: unknown): number => vocab.vocab[String(token)] ?? 0
  await writeJson(join(files.blueprint, 'tokenizer.json'), tokenizer)
  await writeJson(join(files.blueprint, 'tokenizer_config.json'), config)
  const ids = { bos_token_id: id(config['bos_token']), eos_token_id: id(config['eos_token']), pad_token_id: id(config['pad_token']) }
  await writeJson(join(files.blueprint, 'config.json'), { ...plan.model, vocab_size: vocabSize, ...ids })
  return files
}
