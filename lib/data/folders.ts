/** Which files a data path stands for: a file, or a folder with its splits. */
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { fail } from '../base/errors.js'
import { failOnFile } from '../base/files.js'
import { dataEndings, formatOf, needFormat } from './formats/formats.js'

/** The files of one data path, each list in name order. */
export interface DataFiles {
  readonly train: readonly string[]
  /** Of the validation split, or of the test split where there is none; empty without either. */
  readonly held: readonly string[]
}

/** How a known set names its files where the general rule would be wrong; both are held against the path in the folder. */
export interface SplitNames {
  readonly train: RegExp
  readonly held?: RegExp
}

// A word of its own, or with a number behind it: "train-00000-of-00002", "train00", "data/test/a", "eval.jsonl".
const word = (names: string): RegExp => new RegExp(`(?:^|[^a-z])(?:${names})(?:[^a-z]|$)`, 'i')
const splitWords: readonly (readonly [RegExp, 'train' | 'validation' | 'test'])[] = [
  [word('train|training'), 'train'],
  [word('validation|valid|val|dev'), 'validation'],
  [word('test|testing|eval|evaluation'), 'test'],
]

/** The split that a file's path within its folder names. */
export function splitOf(name: string): 'train' | 'validation' | 'test' | null {
  // the last part that names one counts: "test-suite/train.jsonl" is a train split
  for (const part of name.split('/').reverse()) {
    const found = splitWords.find(([pattern]) => pattern.test(part))
    if (found !== undefined) return found[1]
  }
  return null
}

/** Data files of a folder, sub-folders included, with forward slashes, in name order on every machine. */
async function namesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder, { recursive: true })).map((name) => name.split(path.sep).join('/'))
  return names.filter((name) => formatOf(name) !== null && !name.split('/').some((part) => part.startsWith('.'))).sort()
}

/** Divides the data files of a folder, by their paths within it. */
export function divide(names: readonly string[], splits: SplitNames | undefined): { train: string[]; held: string[] } {
  if (splits !== undefined && names.some((name) => splits.train.test(name))) {
    return { train: names.filter((name) => splits.train.test(name)), held: names.filter((name) => splits.held?.test(name) === true) }
  }
  const of = (split: ReturnType<typeof splitOf>): string[] => names.filter((name) => splitOf(name) === split)
  // Where a train split is named, files that name none are something else: other forms of the same rows, lists, notes.
  const train = of('train').length > 0 ? of('train') : of(null)
  const held = of('validation').length > 0 ? of('validation') : of('test')
  // a folder of a test split alone is what it is
  return train.length > 0 ? { train, held } : { train: held, held: [] }
}

function refuseMixed(folder: string, names: readonly string[]): void {
  const kinds = [...new Set(names.map((name) => formatOf(name)!.kind))]
  if (kinds.length > 1) fail('data', `data files of one kind in the folder ${folder}`, kinds.join(' and '), 'to name the files themselves, or a folder with those of one kind')
}

/** Errors: nothing at the path, no data file, files of several kinds. */
export async function dataFiles(target: string, splits?: SplitNames): Promise<DataFiles> {
  let isFolder: boolean
  try {
    isFolder = (await stat(target)).isDirectory()
  } catch (error) {
    failOnFile(error, `a data file or folder at ${target}`)
  }
  if (!isFolder) {
    needFormat(target)
    return { train: [target], held: [] }
  }
  const { train, held } = divide(await namesIn(target), splits)
  if (train.length === 0) fail('data', `a file ending in ${dataEndings.join(', ')} in the folder ${target}`, 'none', 'the folder that holds the data files')
  refuseMixed(target, train)
  const there = (names: readonly string[]): string[] => names.map((name) => path.join(target, name))
  return { train: there(train), held: there(held) }
}
