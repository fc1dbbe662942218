// inspect, convert, init: checkpoints as files.
import type { ModelInspection, RowsInspection } from '../stages/inspect.js'
import { convertOptions, initOptions, inspectOptions } from '../stages/useOptions.js'
import type { CommandSpec } from './command.js'
import { asGiven, modelAlias } from './command.js'
import { bytes, table } from './table.js'

export const inspect: CommandSpec = {
  name: 'inspect',
  summary: 'what a checkpoint holds; with --data how its rows become tokens, and which of them count',
  options: inspectOptions,
  aliases: modelAlias,
  async run(given, { hooks }) {
    const { inspectModel, inspectRows } = await import('../stages/inspect.js')
    if (given['data'] === undefined) {
      const result = await inspectModel(asGiven(given), hooks)
      return { json: result, text: modelText(result) }
    }
    const { shown, ...result } = await inspectRows(asGiven(given), hooks)
    return { json: result, text: rowsText(result, shown) }
  },
}

export const convert: CommandSpec = {
  name: 'convert',
  summary: 'a checkpoint in another type, in files of another size, or from .bin to safetensors',
  options: convertOptions,
  aliases: modelAlias,
  async run(given, { hooks }) {
    const result = await (await import('../stages/convert.js')).convert(asGiven(given), hooks)
    return { json: result, text: `${result.tensors} tensors, ${bytes(result.bytes)} in ${result.files.length === 1 ? result.files[0]! : `${result.files.filter((name) => !name.endsWith('.json')).length} files`}: ${result.model}` }
  },
}

export const init: CommandSpec = {
  name: 'init',
  summary: 'make a model with fresh weights from a config.json',
  options: initOptions,
  async run(given, { hooks }) {
    const result = await (await import('../stages/init.js')).init(asGiven(given), hooks)
    return { json: result, text: `${result.family} model, ${result.parameters} parameters, vocabulary ${result.vocab}: ${result.model}` }
  },
}

function modelText({ folder, family, head, problem, numbers: n, parameters, tokenizer: k, files, verified, memory, tensors }: ModelInspection): string {
  const size = files.reduce((sum, file) => sum + file.bytes, 0)
  const types = [...new Set(tensors.map(({ dtype }) => dtype))].join(', ')
  const facts = [
    ['model', `${String(family)}, ${head === 'scalar' ? 'reward model' : 'language model'}, ${parameters} parameters`],
    ...(n ? [['numbers', `${n.layers} layers, hidden ${n.hidden}, ${n.heads} heads of ${n.headDim}${n.kvHeads === n.heads ? '' : ` over ${n.kvHeads} key/value heads`}, ffn ${n.ffn}, vocabulary ${n.vocab}, ${n.maxPositions} positions, ${n.tiedHead ? 'tied' : 'untied'} head`]] : []),
    ['weights', `${files.length === 1 ? files[0]!.name : `${files.length} files`}, ${bytes(size)}, ${types}`],
    ['tokenizer', k ? `${k.vocabSize} ids, begin ${k.bosToken ?? '-'}, end ${k.eosToken ?? '-'}, ${k.chatTemplate ? 'a chat template' : 'no chat template'}` : 'none'],
    ['sha256', verified === null ? 'not listed' : `${verified} files are as checksums.json lists them`],
  ]
  const needs = memory && [
    ['memory', 'weights', 'training (AdamW)', 'cache of 1024 tokens'],
    ...Object.entries(memory).map(([dtype, m]) => [dtype, bytes(m.weights), bytes(m.training), bytes(m.cache)]),
  ]
  return [
    folder,
    ...(problem === null ? [] : [`not supported: ${problem}`]),
    table(facts),
    ...(needs ? ['', table(needs)] : []),
    '',
    table([['tensor', 'type', 'shape', 'size'], ...tensors.map(({ name, dtype, shape, bytes: b }) => [name, dtype, `[${shape.join(', ')}]`, bytes(b)])]),
  ].join('\n')
}

function rowsText({ warnings, looked, dropped }: RowsInspection, shown: readonly string[]): string {
  const odd = warnings.length === 0 ? ['nothing odd'] : warnings.map((text) => `warning: ${text}`)
  return [...shown.flatMap((text) => [text, '']), `${looked} rows looked at, ${dropped} of them too long or without anything that counts`, ...odd].join('\n')
}
