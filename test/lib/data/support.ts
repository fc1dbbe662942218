/** A byte-level BPE tokenizer of 262 ids, made in memory, and temporary folders, for the tests of the data layer. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { ThreefoldError } from '../../../lib/base/errors.js'
import { Tokenizer } from '../../../lib/data/tokenizer.js'
import type { TokenizerSettings } from '../../../lib/data/tokenizerFiles.js'

/** GPT-2's printable character for each byte. */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
}

const merges = ['h e', 'l l', 'he ll', 'hell o']
export const bosId = 260
export const eosId = 261
export const vocabSize = 262

export function tokenizerJson(options: { readonly around?: boolean } = {}): Record<string, unknown> {
  const tokens = [...byteCharacters(), ...merges.map((merge) => merge.replace(' ', ''))]
  const special = (id: number, content: string): Record<string, unknown> => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })
  const around = {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '<s>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { SpecialToken: { id: '</s>', type_id: 0 } },
    ],
    pair: [],
    special_tokens: {
      '<s>': { id: '<s>', ids: [bosId], tokens: ['<s>'] },
      '</s>': { id: '</s>', ids: [eosId], tokens: ['</s>'] },
    },
  }
  return {
    version: '1.0',
    added_tokens: [special(bosId, '<s>'), special(eosId, '</s>')],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: options.around === false ? null : around,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  }
}

export const tokenizerConfig = { bos_token: '<s>', eos_token: { content: '</s>' } }

/** With `around` (the default) it puts <s> before and </s> after every text. */
export function tinyTokenizer(
  options: { readonly around?: boolean; readonly settings?: Partial<TokenizerSettings> } = {},
): Tokenizer {
  return Tokenizer.fromJson(tokenizerJson(options), { tokenizerConfig, ...options.settings })
}

/** A folder that goes away with the test. */
export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'threefold-test-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export async function writeLines(folder: string, name: string, rows: readonly unknown[]): Promise<string> {
  const file = path.join(folder, name)
  await writeFile(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  return file
}

/** The action must fail in the project's error shape with every one of these texts in the message. */
export async function failsWith(t: ExecutionContext, action: () => unknown, ...texts: readonly string[]): Promise<void> {
  let caught: unknown = null
  try {
    await action()
  } catch (error) {
    caught = error
  }
  if (!(caught instanceof ThreefoldError)) {
    t.fail(`expected a ThreefoldError, received ${String(caught)}`)
    return
  }
  for (const text of texts) t.true(caught.message.includes(text), `${JSON.stringify(text)} in ${caught.message}`)
}
