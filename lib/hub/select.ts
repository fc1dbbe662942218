/** Which files of a repository are wanted. */

/** Files that data tools put beside the rows, in the formats of rows. */
const aboutData = new Set(['dataset_info.json', 'dataset_infos.json', 'dataset_dict.json', 'state.json', 'metadata.json', 'package.json'])

/** True for a file that is about rows, or hidden, and holds none. */
export const holdsNoRows = (name: string): boolean => aboutData.has(name.split('/').at(-1)!) || name.split('/').some((part) => part.startsWith('.'))

/** Files that may hold rows. */
export const dataFileNames = (names: readonly string[]): string[] => names.filter((name) => /\.(?:jsonl|json|csv)(?:\.gz)?$|\.parquet$/.test(name) && !holdsNoRows(name))

const besideWeights = /^(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template|vocab|preprocessor_config)\.json$|^(?:merges|vocab)\.txt$|^chat_template\.jinja$|^(?:tokenizer|spiece|sentencepiece\.bpe)\.model$/

// In the order of preference; the first that is there is the one.
const weightForms: readonly RegExp[] = [
  /^model-\d+-of-\d+\.safetensors$|^model\.safetensors\.index\.json$/,
  /^model\.safetensors$/,
  /^pytorch_model-\d+-of-\d+\.bin$|^pytorch_model\.bin\.index\.json$/,
  /^pytorch_model\.bin$/,
]

/** Configuration, tokenizer, and weights in one form: safetensors, or .bin where there is none. */
export function modelFileNames(names: readonly string[]): string[] {
  const form = weightForms.find((pattern) => names.some((name) => pattern.test(name) && !name.endsWith('.json')))
  return names.filter((name) => besideWeights.test(name) || form?.test(name) === true)
}

/** True for a weight file of a model. */
export const isWeights = (name: string): boolean => weightForms.some((pattern) => pattern.test(name)) && !name.endsWith('.json')

/** A file of a LoRA adapter in PEFT's format. */
export const isAdapterFile = (name: string): boolean => /^adapter_(?:config\.json|model\.(?:safetensors|bin))$/.test(name)

/** Those of a LoRA adapter, which has them instead of config.json and weights: safetensors, or .bin where there is none. */
export const adapterFileNames = (names: readonly string[]): string[] =>
  names.includes('config.json') || !names.includes('adapter_config.json') ? [] : names.filter((name) => isAdapterFile(name) && !(name === 'adapter_model.bin' && names.includes('adapter_model.safetensors')))
