// Reading config.json field by field: a value that is not understood is refused by name, never ignored, and so is a
// field nobody asked for.
import { fail } from '../base/errors.js'
import { isJsonObject } from '../base/json.js'
import type { Activation } from '../binding/native.js'

export type ConfigJson = Record<string, unknown>

/**
 * Fields that change no number of the model: bookkeeping of transformers, dropout (training's own setting), token ids
 * (the tokenizer's matter), and classification heads that are not used here.
 */
const harmless = new RegExp(
  '^(_name_or_path|_attn_implementation.*|_commit_hash|architectures|auto_map|base_model_.*|transformers_version|transformers\\.js_config|' +
    '_num_labels|_flash_attn.*|use_flash_attn.*|attn_implementation|max_sequence_length|model_max_length|is_llama_config|' +
    'model_type|name_or_path|torch_dtype|dtype|torchscript|use_cache|use_bfloat16|unsloth_.*|' +
    'return_dict|return_dict_in_generate|output_attentions|output_hidden_states|output_scores|output_past|prefix|' +
    'chunk_size_feed_forward|gradient_checkpointing|problem_type|id2label|label2id|num_labels|finetuning_task|task_specific_params|' +
    '(bos|eos|pad|sep|unk|decoder_start)_token_id|bos_token|eos_token|pad_token|tokenizer_class|' +
    '.*(dropout|dropout_prob|pdrop|layerdrop|drop_prob)|classifier_.*|summary_.*|' +
    'do_sample|temperature|top_k|top_p|typical_p|num_beams|num_beam_groups|diversity_penalty|repetition_penalty|length_penalty|' +
    'encoder_no_repeat_ngram_size|no_repeat_ngram_size|bad_words_ids|num_return_sequences|early_stopping|max_length|min_length|' +
    'forced_(bos|eos)_token_id|remove_invalid_values|exponential_decay_length_penalty|suppress_tokens|begin_suppress_tokens|' +
    'is_decoder|is_encoder_decoder|pruned_heads|tie_encoder_decoder|cross_attention_hidden_size|tf_legacy_loss|' +
    'initializer_range|init_std|seq_length|n_ctx|skip_bias_add|skip_bias_add_qkv|attention_softmax_in_fp32|masked_softmax_fusion|bias_dropout_fusion|' +
    'unk_index|cls_token_id|mask_token_id)$',
)

/** Typed access to the fields of one config.json; `where` names the file in errors. */
export class ConfigReader {
  readonly #asked = new Set<string>()

  constructor(
    readonly json: ConfigJson,
    readonly where: string,
  ) {}

  refuse(name: string, expected: string): never {
    fail('config', `${expected} for "${name}" in ${this.where}`, JSON.stringify(this.json[name]), 'a model this version supports')
  }

  /** The raw value; undefined where the field is absent or null. */
  value(name: string): unknown {
    this.#asked.add(name)
    return this.json[name] ?? undefined
  }

  has(name: string): boolean {
    return this.value(name) !== undefined
  }

  integer(name: string, fallback?: number): number {
    const v = this.value(name) ?? fallback
    if (typeof v !== 'number' || !Number.isInteger(v) || v <= 0) this.refuse(name, 'a whole number above 0')
    return v
  }

  /** A token id; null in the file means none. */
  id(name: string, fallback: number | null): number | null {
    const v = this.json[name] === undefined ? fallback : this.json[name]
    if (v === null) return null
    return typeof v === 'number' && Number.isInteger(v) ? v : this.refuse(name, 'a token id')
  }

  number(name: string, fallback: number): number {
    const v = this.value(name) ?? fallback
    if (typeof v !== 'number' || !Number.isFinite(v)) this.refuse(name, 'a number')
    return v
  }

  flag(name: string, fallback: boolean): boolean {
    const v = this.value(name) ?? fallback
    if (typeof v !== 'boolean') this.refuse(name, 'true or false')
    return v
  }

  /** Refuses any value but `only` (absent counts as `only`). */
  only(name: string, only: unknown): void {
    if (this.has(name) && this.json[name] !== only) this.refuse(name, JSON.stringify(only))
  }

  /** Fields that are there and mean nothing for the numbers of this family. */
  ignore(...names: string[]): void {
    for (const name of names) this.#asked.add(name)
  }

  activation(name: string, fallback: string): Activation {
    const v = this.value(name) ?? fallback
    const known: Record<string, Activation> = {
      relu: 'relu',
      gelu: 'gelu',
      gelu_new: 'gelu_tanh',
      gelu_pytorch_tanh: 'gelu_tanh',
      gelu_fast: 'gelu_tanh',
      silu: 'silu',
      swish: 'silu',
    }
    return known[String(v)] ?? this.refuse(name, `one of ${Object.keys(known).join(', ')}`)
  }

  /** Refuses the first field with a value that nobody asked for: it may change what the model computes. */
  finish(): void {
    for (const [name, value] of Object.entries(this.json)) {
      if (this.#asked.has(name) || harmless.test(name) || value === null || value === false) continue
      if (isJsonObject(value) && Object.keys(value).length === 0) continue
      fail('config', `fields of config.json whose meaning is known in ${this.where}`, `"${name}": ${JSON.stringify(value).slice(0, 60)}`, 'removing the field if it does not change what the model computes, or a model this version supports')
    }
  }
}
