/**
 * The tokenizer classes of transformers 5. Some of them build their tokenizer anew from vocabulary and merges, whatever
 * normalizer and pre-tokenizer a tokenizer.json names; what they build is written down here in the form of that file.
 * After transformers/models/<name>/tokenization_<name>.py and models/auto/tokenization_auto.py.
 */
type Json = Readonly<Record<string, unknown>>

/** What a class makes of its vocabulary. */
export interface ClassRecipe {
  readonly modelType: 'BPE' | 'Unigram'
  readonly model: Json
  readonly normalizer: Json | null
  readonly preTokenizer: Json | null
  readonly decoder: Json | null
  /** Replaces the file's own; undefined: the file's own stays. */
  readonly postProcessor?: Json | undefined
  /** bos_token, eos_token, unk_token and so on where the configuration names none. */
  readonly tokens: Readonly<Record<string, string>>
}

const qwenPattern = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

const byteLevel = (settings: Json): Json => ({ type: 'ByteLevel', add_prefix_space: settings['add_prefix_space'] === true, trim_offsets: true, use_regex: true })
const byteLevelDecoder: Json = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }
const plainBpe: Json = { dropout: null, unk_token: null, continuing_subword_prefix: '', end_of_word_suffix: '', fuse_unk: false, byte_fallback: false, ignore_merges: false }
const spaces: Json = { type: 'Replace', pattern: { String: '▁' }, content: ' ' }

/** The text of a token, written as "<s>" or as {"content": "<s>"}. */
export function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value
  const content: unknown = typeof value === 'object' && value !== null && 'content' in value ? value.content : null
  return typeof content === 'string' ? content : null
}

function gpt2(settings: Json): ClassRecipe {
  return {
    modelType: 'BPE',
    model: plainBpe,
    normalizer: null,
    preTokenizer: byteLevel(settings),
    decoder: byteLevelDecoder,
    tokens: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', unk_token: '<|endoftext|>' },
  }
}

function gptNeoX(settings: Json): ClassRecipe {
  return { ...gpt2(settings), normalizer: { type: 'NFC' } }
}

function qwen2(settings: Json): ClassRecipe {
  return {
    ...gptNeoX(settings),
    preTokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: qwenPattern }, behavior: 'Isolated', invert: false },
        { ...byteLevel(settings), use_regex: false },
      ],
    },
    tokens: { eos_token: '<|endoftext|>', unk_token: '<|endoftext|>', pad_token: '<|endoftext|>' },
  }
}

function llama(settings: Json): ClassRecipe {
  const spaced = settings['add_prefix_space'] !== false
  const scheme = settings['legacy'] === true ? 'always' : 'first'
  return {
    modelType: 'BPE',
    model: { ...plainBpe, fuse_unk: true, byte_fallback: true },
    normalizer: null,
    preTokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: spaced ? scheme : 'never', split: false },
    decoder: {
      type: 'Sequence',
      decoders: [spaces, { type: 'ByteFallback' }, { type: 'Fuse' }, ...(spaced ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [])],
    },
    tokens: { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' },
  }
}

function gemma(settings: Json): ClassRecipe {
  return {
    modelType: 'BPE',
    model: { ...plainBpe, unk_token: tokenText(settings['unk_token']) ?? '<unk>', fuse_unk: true, byte_fallback: true },
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    preTokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
    decoder: { type: 'Sequence', decoders: [spaces, { type: 'ByteFallback' }, { type: 'Fuse' }] },
    tokens: { bos_token: '<bos>', eos_token: '<eos>', unk_token: '<unk>', pad_token: '<pad>', mask_token: '<mask>' },
  }
}

const recipes: Readonly<Record<string, (settings: Json) => ClassRecipe>> = {
  GPT2Tokenizer: gpt2,
  GPTNeoXTokenizer: gptNeoX,
  Qwen2Tokenizer: qwen2,
  LlamaTokenizer: llama,
  GemmaTokenizer: gemma,
}

/** What a class builds from its vocabulary; null for a class that takes a tokenizer.json as it is. */
export function recipeOf(className: string | null, tokenizerConfig: Json): ClassRecipe | null {
  const make = className !== null && Object.hasOwn(recipes, className) ? recipes[className] : undefined
  return make?.(tokenizerConfig) ?? null
}

/** The class AutoTokenizer has for a model type; "" for those that take any tokenizer.json as it is. */
const classOfModelType: Readonly<Record<string, string>> = {
  codegen: 'GPT2Tokenizer',
  gpt2: 'GPT2Tokenizer',
  gpt_neo: 'GPT2Tokenizer',
  gptj: 'GPT2Tokenizer',
  opt: 'GPT2Tokenizer',
  phi: 'GPT2Tokenizer',
  starcoder2: 'GPT2Tokenizer',
  gpt_neox: 'GPTNeoXTokenizer',
  olmo: 'GPTNeoXTokenizer',
  mpt: 'GPTNeoXTokenizer',
  gemma: 'GemmaTokenizer',
  gemma2: 'GemmaTokenizer',
  gemma3: 'GemmaTokenizer',
  gemma3_text: 'GemmaTokenizer',
  qwen2: 'Qwen2Tokenizer',
  qwen2_moe: 'Qwen2Tokenizer',
  qwen3: 'Qwen2Tokenizer',
  qwen3_moe: 'Qwen2Tokenizer',
  glm: '',
  glm4: '',
  gpt_bigcode: '',
  granite: '',
  internlm2: '',
  mistral: '',
  mixtral: '',
  ministral: '',
  nemotron: '',
  olmo2: '',
  olmo3: '',
  phi3: '',
  phimoe: '',
  stablelm: '',
}
/** Here the model type decides against the class that the files name. */
const namedWrongly = ['qwen2']

function withoutFast(name: string): string {
  return name.endsWith('Fast') ? name.slice(0, -4) : name
}

/** The class that the files of a folder name, without "Fast"; null where they name none. */
export function declaredClass(tokenizerConfig: Json, modelConfig: Json): string | null {
  const name = tokenizerConfig['tokenizer_class'] ?? modelConfig['tokenizer_class']
  return typeof name === 'string' ? withoutFast(name) : null
}

/** The class AutoTokenizer takes for a folder with a tokenizer.json; null for the file as it is. */
export function classOf(tokenizerConfig: Json, modelConfig: Json, byteLevelFile: boolean): string | null {
  const declared = declaredClass(tokenizerConfig, modelConfig)
  const modelType = typeof modelConfig['model_type'] === 'string' ? modelConfig['model_type'] : ''
  const registered = Object.hasOwn(classOfModelType, modelType) ? classOfModelType[modelType]! : null
  // Many Llama 3 models name Llama 2's class.
  if (declared === 'LlamaTokenizer' && registered !== '' && byteLevelFile) return null
  if (declared === null) return registered === '' ? null : registered
  if (registered === null || registered === declared) return declared
  if (registered === '') return null
  return namedWrongly.includes(modelType) ? registered : declared
}
