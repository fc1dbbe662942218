/** Files and folders of rows -> validated datasets in memory. */
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../base/errors.js'
import { failOnFile, parseJson } from '../base/files.js'
import { kindOf } from '../base/json.js'
import { readLines, readText } from '../base/lines.js'
import type { Location, RawRow } from './records.js'
import { parseRow, understoodShapes } from './rowShapes.js'

/** The rows of one data path, which is one dataset for splitting and blending. */
export interface Dataset {
  readonly path: string
  readonly rows: readonly RawRow[]
  /** Rows left out because the two transcripts share no `Assistant:` (or the two message lists no message). */
  readonly skipped: number
}

const extensions = ['.jsonl', '.json', '.jsonl.gz', '.json.gz'] as const

function isDataFile(name: string): boolean {
  return !path.basename(name).startsWith('.') && extensions.some((extension) => name.endsWith(extension))
}

/** The data files of a folder, sub-folders included, in name order on every machine. */
async function filesOf(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true })
  return names
    .filter(isDataFile)
    .sort()
    .map((name) => path.join(folder, name))
}

async function expandPath(target: string): Promise<string[]> {
  let isFolder: boolean
  try {
    isFolder = (await stat(target)).isDirectory()
  } catch (error) {
    failOnFile(error, `a data file or folder at ${target}`)
  }
  if (!isFolder) {
    if (isDataFile(target)) return [target]
    fail('data', `a file name ending in ${extensions.join(', ')}`, target, 'to rename or convert the file')
  }
  const files = await filesOf(target)
  if (files.length === 0) {
    fail(
      'data',
      `a file ending in ${extensions.join(', ')} in the folder ${target}`,
      'none',
      'the folder that holds the data files',
    )
  }
  return files
}

type ParsedRow = { readonly value: unknown; readonly at: Location }

async function* jsonLines(file: string): AsyncGenerator<ParsedRow> {
  for await (const { line, text } of readLines(file)) {
    yield { value: parseJson(text, file, line), at: { file, line, unit: 'line' } }
  }
}

/** True when the first character of the file opens an array: a .json file may also hold one object on each line. */
async function holdsArray(file: string): Promise<boolean> {
  for await (const { text } of readLines(file)) return text.trimStart().startsWith('[')
  return false
}

async function* jsonArray(file: string): AsyncGenerator<ParsedRow> {
  const values = parseJson(await readText(file), file)
  if (!Array.isArray(values))
    fail('data', `a list of rows in ${file}`, kindOf(values), 'one JSON array, or one object on each line')
  for (const [index, value] of (values as unknown[]).entries()) yield { value, at: { file, line: index + 1, unit: 'row' } }
}

async function* parsedRows(file: string): AsyncGenerator<ParsedRow> {
  const lines = /\.jsonl(\.gz)?$/.test(file) || !(await holdsArray(file))
  yield* lines ? jsonLines(file) : jsonArray(file)
}

/**
 * Reads and validates one data path: a .jsonl or .json file (.gz too) or a folder of them. Errors name file, line,
 * field and cure. A dataset without a usable row is an error.
 */
export async function readDataset(target: string): Promise<Dataset> {
  const rows: RawRow[] = []
  let skipped = 0
  for (const file of await expandPath(target)) {
    for await (const { value, at } of parsedRows(file)) {
      const row = parseRow(value, at)
      if (row === null) skipped++
      else rows.push(row)
    }
  }
  if (rows.length === 0 && skipped > 0) {
    fail(
      'data',
      `rows with a prompt in ${target}`,
      `${skipped} rows whose two texts share no "Assistant:"`,
      'rows {prompt, chosen, rejected}',
    )
  }
  if (rows.length === 0) {
    fail(
      'data',
      `at least one row in ${target}`,
      'an empty dataset',
      `one JSON object on each line, in a shape of ${understoodShapes}`,
    )
  }
  return { path: target, rows, skipped }
}

/** Reads several data paths in order; one dataset each. */
export async function readDatasets(targets: string | readonly string[]): Promise<Dataset[]> {
  const datasets: Dataset[] = []
  for (const target of typeof targets === 'string' ? [targets] : targets) datasets.push(await readDataset(target))
  return datasets
}
