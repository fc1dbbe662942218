// Every reader that is fuzzed: by test/lib/fuzz.test.ts in small numbers, by `npm run fuzz` in large ones.
import { target as chatTemplate } from './chatTemplate.js'
import { checkpointTargets } from './checkpointTargets.js'
import { target as csv } from './csv.js'
import { target as json } from './json.js'
import { target as jsonl } from './jsonl.js'
import { target as parquet } from './parquet.js'
import { target as sentencePiece } from './sentencePiece.js'
import type { FuzzTarget } from './target.js'
import { target as tokenizerJson } from './tokenizerJson.js'

const text = [tokenizerJson, chatTemplate, csv, json, jsonl].map((target) => ({ ...target, text: true }))

export const targets: readonly FuzzTarget[] = [...checkpointTargets, ...text, sentencePiece, parquet]
