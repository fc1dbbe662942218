import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { readGenerationConfig } from '../../../lib/checkpoint/generationConfig.js'
import { failsWith, temporaryFolder } from '../data/support.js'

async function folderWith(t: ExecutionContext, json: unknown): Promise<string> {
  const folder = await temporaryFolder(t)
  if (json !== undefined) await writeFile(join(folder, 'generation_config.json'), typeof json === 'string' ? json : JSON.stringify(json))
  return folder
}
const read = async (t: ExecutionContext, json: unknown) => readGenerationConfig(await folderWith(t, json))

test('as transformers: cuts count where it says do_sample, and top-k is 50 then', async (t) => {
  t.deepEqual(await read(t, undefined), { ignored: [] })
  t.deepEqual(await read(t, { bos_token_id: 1, eos_token_id: [2, 3] }), { ignored: [] })
  t.deepEqual(await read(t, { do_sample: true, temperature: 0.6, top_p: 0.9 }), { temperature: 0.6, topK: 50, topP: 0.9, ignored: [] })
  t.deepEqual(await read(t, { do_sample: true, top_k: 20, min_p: 0.05 }), { temperature: 1, topK: 20, minP: 0.05, ignored: [] })
  t.deepEqual(await read(t, { do_sample: false, temperature: 0.6 }), { temperature: 0, ignored: [] })
  t.deepEqual(await read(t, { temperature: 0.6, top_k: 20 }), { ignored: [] }, 'without do_sample they are not meant')
})

test('penalties, lengths, stops and bans hold either way', async (t) => {
  t.deepEqual(await read(t, { repetition_penalty: 1.1, max_new_tokens: 77, stop_strings: '\n\n', suppress_tokens: [4], bad_words_ids: [[5], [6]] }), {
    repetitionPenalty: 1.1,
    maxNewTokens: 77,
    stop: ['\n\n'],
    banned: [4, 5, 6],
    ignored: [],
  })
})

test('what has no meaning here is named, at values that matter', async (t) => {
  t.deepEqual((await read(t, { num_beams: 4, no_repeat_ngram_size: 0, typical_p: 1, begin_suppress_tokens: [], forced_eos_token_id: 2 })).ignored, ['num_beams', 'forced_eos_token_id'])
})

test('wrong values are refused with file and field', async (t) => {
  for (const [json, ...parts] of [
    [[], 'a JSON object', 'an array'],
    [{ do_sample: 'yes' }, 'true or false as "do_sample"', '"yes"'],
    [{ do_sample: true, temperature: -1 }, '"temperature"', '-1'],
    [{ top_p: 2 }, '"top_p"', '2'],
    [{ max_new_tokens: 1.5 }, '"max_new_tokens"', '1.5'],
    [{ stop_strings: 5 }, '"stop_strings"', '5'],
    [{ bad_words_ids: [[1, 2]] }, 'lists of one token id each', '[[1,2]]'],
    ['{"do_sample": tru', 'line 1'],
  ] as [unknown, ...string[]][])
    await failsWith(t, () => read(t, json), 'generation_config.json', ...parts)
})
