// `eval` from the command line: tables for people, one object for scripts, samples that `label` takes.
import { join } from 'node:path'

import test from 'ava'

import { makeModel, preferenceRows } from '../stages/support.js'
import { folder, jsonl, threefold } from './support.js'

test('eval: tables, --json, --output-dir, and its samples go into label', async (t) => {
  const dir = await folder(t)
  const model = await makeModel(dir)
  const other = await makeModel(dir, 'other', { hidden_size: 16, word_embed_proj_dim: 16 })
  const data = await jsonl(join(dir, 'data.jsonl'), preferenceRows.slice(0, 8))
  const out = join(dir, 'out')
  const args = ['eval', '--model', model, '--against', other, '--data-path', data, '--max-new-tokens', '5', '--top_k', '20', '--output-dir', out]
  const shown = await threefold(args)
  t.is(shown.status, 0, shown.stderr)
  t.regex(shown.stdout, /^model and against\n +\S+\/base +\S+\/other\nperplexity +\d/)
  t.regex(shown.stdout, /\ntokens that count +24 in 8 rows +24 in 8 rows\n/)
  t.regex(shown.stdout, /\n8 rows; 8 of 8 prompts answered; took .*\neval\.json, samples\.jsonl and report\.html are in /)
  t.notRegex(shown.stdout, /score|win rate/, 'nothing is said of a reward model that is not there')
  const json = JSON.parse((await threefold([...args, '--json', '--quiet'])).stdout) as { model: { answers: { answers: number } }; comparison: null }
  t.is(json.model.answers.answers, 8)
  t.is(json.comparison, null)
  const labelled = await threefold(['label', '--input', join(out, 'samples.jsonl'), '--output', join(dir, 'labels.jsonl'), '--labeler', 'ann'], { input: 'l\n' })
  t.regex(labelled.stdout, /^1 row labelled, \d left/)
  const wrong = await threefold(['eval', '--data-path', data])
  t.is(wrong.status, 2)
  t.regex(wrong.stderr, /^\[eval\] expected --model or --reward-model, received neither\./)
})
