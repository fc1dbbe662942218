/**
 * A SentencePiece model in the form of a tokenizer.json: as transformers 5 converts it for the classes of Llama, Gemma
 * and T5, and for others as SentencePiece itself encodes.
 */
import { fail } from '../../base/errors.js'
import type { ClassRecipe } from './classes.js'
import type { SentencePieceModel } from './sentencePiece.js'

type Json = Readonly<Record<string, unknown>>

export interface ConvertedModel {
  readonly recipe: ClassRecipe
  /** "vocab" and "merges", or "vocab" and "unk_id". */
  readonly model: Json
  /** Control and user-defined pieces: they are found in the text itself. */
  readonly addedTokens: readonly Json[]
}

/** Errors: a class whose conversion is not known, or a model of another type than the class has. */
export function convertSentencePiece(model: SentencePieceModel, recipe: ClassRecipe | null, className: string | null, file: string): ConvertedModel {
  const isT5 = className === 'T5Tokenizer'
  const known = recipe ?? (isT5 ? t5(model) : plain(model, file))
  const wanted = known.modelType === 'BPE' ? 'bpe' : 'unigram'
  if (model.type !== wanted) {
    fail('tokenizer', `a ${wanted} model in ${file}, because its class is ${className}`, model.type, 'the tokenizer_config.json that came with the model')
  }
  const addedTokens = model.pieces.flatMap(({ piece, type }, id) =>
    type === 'control' || type === 'userDefined' ? [addedToken(id, piece, type === 'control')] : [],
  )
  if (wanted === 'bpe') return { recipe: known, model: { ...known.model, ...bpeParts(model) }, addedTokens }
  const pieces = model.pieces.map(({ piece, score }) => [piece, score] as const)
  if (!isT5) return { recipe: known, model: { ...known.model, vocab: pieces, unk_id: Math.max(model.unknownId, 0) }, addedTokens }
  const parts = { vocab: [...pieces, ...extraTokens.map((token) => [token, 0] as const)], unk_id: Math.min(2, pieces.length - 1) }
  return {
    recipe: known,
    model: { ...known.model, ...parts },
    addedTokens: [...addedTokens, ...extraTokens.map((token, i) => addedToken(pieces.length + i, token, true))],
  }
}

const extraTokens = Array.from({ length: 100 }, (_, i) => `<extra_id_${99 - i}>`)

function addedToken(id: number, content: string, special: boolean): Json {
  return { id, content, special, normalized: false, single_word: false, lstrip: false, rstrip: false }
}

/**
 * The merges that make the pieces: every way to cut a piece in two that are pieces, in the order of the pieces' ids (a
 * BPE model has them in the order it learned them), the shorter left part first.
 */
function bpeParts({ pieces }: SentencePieceModel): Json {
  const vocab = new Map(pieces.map(({ piece }, id) => [piece, id]))
  const merges: [string, string][] = []
  for (const { piece } of pieces) {
    for (let at = 0; ; ) {
      at += piece.codePointAt(at)! > 0xffff ? 2 : 1
      if (at >= piece.length) break
      const [left, right] = [piece.slice(0, at), piece.slice(at)]
      if (vocab.has(left) && vocab.has(right)) merges.push([left, right])
    }
  }
  return { vocab: Object.fromEntries(vocab), merges }
}

function charsmapOf({ charsmap }: SentencePieceModel): Json[] {
  return charsmap.length === 0 ? [] : [{ type: 'Precompiled', precompiled_charsmap: Buffer.from(charsmap).toString('base64') }]
}

function t5(model: SentencePieceModel): ClassRecipe {
  return {
    modelType: 'Unigram',
    model: { type: 'Unigram', byte_fallback: false },
    normalizer: charsmapOf(model)[0] ?? null,
    preTokenizer: {
      type: 'Sequence',
      pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }],
    },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    postProcessor: {
      type: 'TemplateProcessing',
      single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
      special_tokens: { '</s>': { id: '</s>', ids: [model.pieces.findIndex(({ piece }) => piece === '</s>')], tokens: ['</s>'] } },
    },
    tokens: { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' },
  }
}

/**
 * What SentencePiece does by itself: the longest keys of its character map replaced, runs of spaces made one, white space
 * marked by "▁", one mark before the text.
 */
function plain(model: SentencePieceModel, file: string): ClassRecipe {
  const { addDummyPrefix, removeExtraWhitespaces, byteFallback, bosId, eosId, unknownId, pieces } = model
  const own = pieces.find(({ type }) => type === 'userDefined')
  if (own !== undefined) {
    const expected = `no user-defined pieces in ${file}, because tokenizer_config.json names none of the classes LlamaTokenizer, GemmaTokenizer and T5Tokenizer`
    fail('tokenizer', expected, JSON.stringify(own.piece), 'to name the class in tokenizer_config.json ("tokenizer_class"), or a model with a tokenizer.json')
  }
  const replaced = (pattern: Json, content: string): Json => ({ type: 'Replace', pattern, content })
  const space = replaced({ String: ' ' }, '▁')
  const steps = [
    ...charsmapOf(model).map((map) => ({ ...map, longest: true })),
    ...(removeExtraWhitespaces ? [{ ...replaced({ Regex: '\\A +' }, ''), starts: true }, replaced({ Regex: ' {2,}' }, ' ')] : []),
    ...(addDummyPrefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
    space,
    ...(removeExtraWhitespaces ? [replaced({ Regex: '▁+\\z' }, '')] : []),
  ]
  const named = (name: string, id: number): Record<string, string> => (id < 0 ? {} : { [name]: pieces[id]!.piece })
  const unknown = unknownId < 0 ? null : pieces[unknownId]!.piece
  return {
    modelType: model.type === 'bpe' ? 'BPE' : 'Unigram',
    model: model.type === 'bpe' ? { unk_token: unknown, fuse_unk: true, byte_fallback: byteFallback } : { byte_fallback: byteFallback, float32: true },
    normalizer: { type: 'Sequence', normalizers: steps },
    preTokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        replaced({ String: '▁' }, ' '),
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addDummyPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    tokens: { ...named('bos_token', bosId), ...named('eos_token', eosId), ...named('unk_token', unknownId) },
  }
}
