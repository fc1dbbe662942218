/** One row as text, with what counts in the loss, for `--dry-run`. */
import type { PromptRow, TokenRow } from './records.js'
import type { RowCodec } from './rowList.js'
import type { Tokenizer } from './tokenizer.js'

export interface PreviewOptions {
  /** Null: ids are shown. */
  readonly tokenizer: Tokenizer | null
  /** True on a terminal: counted text is green instead of standing in brackets. */
  readonly color: boolean
}

const open = '⟦'
const close = '⟧'
const green = '\u001b[32m'
const plain = '\u001b[39m'

function runText(ids: Int32Array, tokenizer: Tokenizer | null): string {
  if (tokenizer === null) return Array.from(ids).join(' ')
  // Line ends are shown as two characters, so that one row stays one line.
  return tokenizer.decode(ids, { skipSpecial: false }).replaceAll('\r', '\\r').replaceAll('\n', '\\n')
}

function markedText({ ids, counted }: TokenRow, { tokenizer, color }: PreviewOptions): string {
  const runs: string[] = []
  for (let start = 0, end = 0; start < ids.length; start = end) {
    while (end < ids.length && counted[end] === counted[start]) end++
    const text = runText(ids.subarray(start, end), tokenizer)
    if (counted[start] === 0) runs.push(text)
    else runs.push(color ? `${green}${text}${plain}` : `${open}${text}${close}`)
  }
  return runs.join(tokenizer === null ? ' ' : '')
}

/** "12 tokens, 5 count" and the row's text, counted stretches in ⟦ ⟧ (or green). Without a tokenizer, ids. */
export function previewRow(row: TokenRow, options: PreviewOptions): string {
  const count = row.counted.reduce((sum, value) => sum + value, 0)
  return `${row.ids.length} tokens, ${count} count: ${markedText(row, options)}`
}

/** The answers of a pair or a ranking, one line each, with their names. */
export const previewAnswers =
  <Row>(codec: RowCodec<Row>) =>
  (row: Row, options: PreviewOptions): string => {
    const names = codec.names(row)
    const width = Math.max(...names.map((name) => name.length))
    return codec.parts(row).map((part, i) => `${names[i]!.padEnd(width)} ${previewRow(part, options)}`).join('\n')
  }

/** A prompt: nothing in it counts. */
export function previewPrompt(prompt: PromptRow, options: PreviewOptions): string {
  return `${prompt.ids.length} tokens: ${runText(prompt.ids, options.tokenizer)}`
}
