"""Tiny models of every family: the ones committed as fixtures, and random ones that nothing was tuned to."""

import random

import torch
import transformers as t


def _config(cls, **fields):
    """No dropout, no tokens with a meaning of their own unless the fields say so."""
    ids = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
    for name in ("dropout", "attention_dropout", "hidden_dropout", "resid_dropout", "embed_dropout", "activation_dropout",
                 "resid_pdrop", "embd_pdrop", "attn_pdrop", "layerdrop", "classifier_dropout", "summary_first_dropout"):
        if hasattr(cls(), name):
            ids[name] = 0.0
    return cls(**{**ids, **fields})


def _rope(fields, theta=10000.0, partial=None, **scaling):
    rope = {"rope_type": "default", "rope_theta": theta, **scaling}
    if partial is not None:
        rope["partial_rotary_factor"] = partial
    return {**fields, "rope_parameters": rope}


def opt(**fields):
    fields.setdefault("word_embed_proj_dim", fields["hidden_size"])
    return _config(t.OPTConfig, **{"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, **fields})


def gpt2(**fields):
    return _config(t.GPT2Config, **fields)


def gpt_neo(**fields):
    return _config(t.GPTNeoConfig, **fields)


def gptj(**fields):
    return _config(t.GPTJConfig, **fields)


def codegen(**fields):
    fields.setdefault("n_ctx", fields["n_positions"])
    return _config(t.CodeGenConfig, **fields)


def neox(**fields):
    partial = fields.pop("partial", 0.25)
    return _config(t.GPTNeoXConfig, **_rope(fields, theta=fields.pop("theta", 10000.0), partial=partial))


def bloom(**fields):
    return _config(t.BloomConfig, **fields)


def llama(theta=10000.0, scaling=None, **fields):
    return _config(t.LlamaConfig, **_rope(fields, theta, **(scaling or {})))


def mistral(theta=10000.0, **fields):
    return _config(t.MistralConfig, **_rope(fields, theta))


def qwen2(theta=10000.0, scaling=None, **fields):
    return _config(t.Qwen2Config, **_rope(fields, theta, **(scaling or {})))


def qwen3(theta=10000.0, **fields):
    return _config(t.Qwen3Config, **_rope(fields, theta))


def gemma2(theta=10000.0, **fields):
    return _config(t.Gemma2Config, **_rope(fields, theta))


def gemma3(theta=1000000.0, local=10000.0, scaling=None, **fields):
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": local},
            "full_attention": {"rope_type": "default", "rope_theta": theta, **(scaling or {})}}
    return _config(t.Gemma3TextConfig, **fields, rope_parameters=rope)


def phi3(theta=10000.0, partial=None, scaling=None, **fields):
    return _config(t.Phi3Config, **_rope(fields, theta, partial, **(scaling or {})))


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", factor=2.0)
# Powers of two, which float32 holds exactly.
LONGROPE = dict(rope_type="longrope", short_factor=[1.0, 1.0, 1.5, 2.0], long_factor=[1.0, 2.0, 4.0, 8.0],
                original_max_position_embeddings=64)

# name -> seed, sequence lengths, config; "shard" and "dtype" say how it is stored.
FIXTURES = {
    "opt-tiny": dict(seed=181, lengths=[5, 12, 2, 40, 23], config=lambda: opt(
        hidden_size=32, num_attention_heads=4, ffn_dim=64, num_hidden_layers=2, vocab_size=97, max_position_embeddings=64,
        activation_function="relu", tie_word_embeddings=True)),
    "opt-odd": dict(seed=402, lengths=[9, 4, 31, 2, 18], shard="40KB", config=lambda: opt(
        hidden_size=30, num_attention_heads=3, ffn_dim=77, num_hidden_layers=3, vocab_size=131, max_position_embeddings=51,
        activation_function="gelu", tie_word_embeddings=False)),
    # OPT-350m: LayerNorm behind each half, narrow embeddings
    "opt-post": dict(seed=183, lengths=[7, 12, 2, 30], config=lambda: opt(
        hidden_size=24, word_embed_proj_dim=14, num_attention_heads=3, ffn_dim=40, num_hidden_layers=2, vocab_size=61,
        max_position_embeddings=48, do_layer_norm_before=False, tie_word_embeddings=True)),
    "gpt2": dict(seed=210, lengths=[7, 12, 2, 30], config=lambda: gpt2(
        n_embd=24, n_head=3, n_layer=2, n_inner=40, n_positions=48, vocab_size=61)),
    "gpt-neo": dict(seed=221, lengths=[7, 12, 2, 30], config=lambda: gpt_neo(
        hidden_size=24, num_heads=3, num_layers=3, attention_types=[[["global", "local"], 1], [["local"], 1]], window_size=5,
        intermediate_size=40, max_position_embeddings=48, vocab_size=61)),
    "gptj": dict(seed=230, lengths=[7, 12, 2, 30], config=lambda: gptj(
        n_embd=24, n_head=2, n_layer=2, n_inner=40, rotary_dim=6, n_positions=48, vocab_size=61)),
    "codegen": dict(seed=240, lengths=[7, 12, 2, 30], config=lambda: codegen(
        n_embd=24, n_head=4, n_layer=2, n_inner=40, rotary_dim=4, n_positions=48, vocab_size=61)),
    "neox": dict(seed=250, lengths=[7, 12, 2, 30], config=lambda: neox(
        hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=40, max_position_embeddings=48,
        vocab_size=61, partial=0.5)),
    "neox-serial": dict(seed=251, lengths=[7, 12, 2, 30], config=lambda: neox(
        hidden_size=24, num_attention_heads=2, num_hidden_layers=2, intermediate_size=40, max_position_embeddings=48,
        vocab_size=61, partial=1.0, use_parallel_residual=False)),
    "bloom": dict(seed=260, lengths=[7, 12, 2, 30], config=lambda: bloom(
        hidden_size=24, n_head=3, n_layer=2, vocab_size=61)),
    "llama-tiny": dict(seed=123, lengths=[8, 3, 40, 17, 2], config=lambda: llama(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=72, num_hidden_layers=2,
        vocab_size=101, max_position_embeddings=128, tie_word_embeddings=False)),
    "llama-odd": dict(seed=124, lengths=[6, 11, 2, 39, 20], dtype=torch.bfloat16, config=lambda: llama(
        hidden_size=36, num_attention_heads=3, head_dim=14, num_key_value_heads=1, intermediate_size=50, num_hidden_layers=3,
        vocab_size=67, max_position_embeddings=128, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        theta=5000.0, rms_norm_eps=1e-5)),
    "llama3": dict(seed=270, lengths=[7, 12, 2, 60], config=lambda: llama(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=40, num_hidden_layers=2,
        vocab_size=61, max_position_embeddings=256, theta=500.0, scaling=LLAMA3)),
    "mistral": dict(seed=280, lengths=[7, 12, 2, 30], config=lambda: mistral(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=6, intermediate_size=40, num_hidden_layers=2,
        vocab_size=61, max_position_embeddings=64, sliding_window=6)),
    "qwen2": dict(seed=290, lengths=[7, 12, 2, 60], config=lambda: qwen2(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=40, num_hidden_layers=3,
        vocab_size=61, max_position_embeddings=128, use_sliding_window=True, sliding_window=7, max_window_layers=2,
        scaling=YARN, theta=500.0)),
    "qwen3": dict(seed=300, lengths=[7, 12, 2, 30], config=lambda: qwen3(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=40, num_hidden_layers=2,
        vocab_size=61, max_position_embeddings=64, tie_word_embeddings=True)),
    "gemma2": dict(seed=310, lengths=[7, 12, 2, 30], config=lambda: gemma2(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=40, num_hidden_layers=3,
        vocab_size=61, max_position_embeddings=64, sliding_window=6, query_pre_attn_scalar=10, attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0, pad_token_id=0)),
    "gemma3": dict(seed=321, lengths=[7, 12, 2, 30], config=lambda: gemma3(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=1, head_dim=8, intermediate_size=40, num_hidden_layers=3,
        vocab_size=61, max_position_embeddings=64, sliding_window=6, query_pre_attn_scalar=8, pad_token_id=0,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"], scaling=LINEAR, theta=20000.0)),
    "phi3": dict(seed=330, lengths=[7, 12, 2, 60], config=lambda: phi3(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=3, intermediate_size=40, num_hidden_layers=2,
        vocab_size=61, max_position_embeddings=256, original_max_position_embeddings=64, scaling=LONGROPE, pad_token_id=0)),
}


def random_config(family, seed):
    """A configuration of odd sizes that no fixture has. Sequences in use stay within 40 positions."""
    r = random.Random(f"{family} {seed}")
    heads, d = r.choice([1, 2, 3, 5, 6]), r.choice([2, 4, 6, 10, 16])
    kv = r.choice([g for g in range(1, heads + 1) if heads % g == 0])
    ffn, layers, vocab = r.randint(9, 70), r.randint(1, 4), r.randint(50, 140)
    act = r.choice(["relu", "gelu", "gelu_new", "silu"])
    theta, tied, bias = r.choice([500.0, 10000.0, 77777.0]), r.random() < 0.5, r.random() < 0.5
    window = r.choice([1, 2, 5, 17, 64])
    kin = dict(hidden_size=heads * r.randint(2, 12), num_attention_heads=heads, num_key_value_heads=kv, head_dim=d, intermediate_size=ffn,
               num_hidden_layers=layers, vocab_size=vocab, max_position_embeddings=64, tie_word_embeddings=tied,
               rms_norm_eps=r.choice([1e-6, 1e-5, 1e-3]))
    scaling = r.choice([None, LLAMA3, YARN, LINEAR, dict(YARN, mscale=1.0, mscale_all_dim=0.5, truncate=False),
                        dict(rope_type="dynamic", factor=2.0)])
    mixed = [r.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    if family == "opt":
        hidden, post = heads * d, r.random() < 0.5
        return opt(hidden_size=hidden, num_attention_heads=heads, ffn_dim=ffn, num_hidden_layers=layers, vocab_size=vocab,
                   max_position_embeddings=48, activation_function=act, tie_word_embeddings=tied, enable_bias=bias,
                   do_layer_norm_before=not post, word_embed_proj_dim=r.choice([hidden, r.randint(4, 30)]))
    if family == "gpt2":
        return gpt2(n_embd=heads * d, n_head=heads, n_layer=layers, n_inner=r.choice([None, ffn]), n_positions=48,
                    vocab_size=vocab, activation_function=act, tie_word_embeddings=tied, scale_attn_weights=r.random() < 0.7,
                    layer_norm_epsilon=r.choice([1e-5, 1e-3]))
    if family == "gpt_neo":
        return gpt_neo(hidden_size=heads * d, num_heads=heads, num_layers=layers, window_size=window, vocab_size=vocab,
                       attention_types=[[[r.choice(["global", "local"]) for _ in range(layers)], 1]], intermediate_size=ffn,
                       max_position_embeddings=48, activation_function=act, tie_word_embeddings=tied)
    if family in ("gptj", "codegen"):
        heads = 4 * r.choice([1, 2]) if family == "codegen" else heads
        make = codegen if family == "codegen" else gptj
        return make(n_embd=heads * d, n_head=heads, n_layer=layers, n_inner=ffn, rotary_dim=r.choice([x for x in (2, 4, 8, 16) if x <= d]),
                    n_positions=48, vocab_size=vocab, activation_function=act, tie_word_embeddings=family == "gptj" and tied)
    if family == "gpt_neox":
        return neox(hidden_size=heads * d, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=ffn,
                    max_position_embeddings=48, vocab_size=vocab, hidden_act=act, use_parallel_residual=r.random() < 0.5,
                    partial=r.choice([x for x in (0.25, 0.5, 1.0) if int(d * x) >= 2 and int(d * x) % 2 == 0]), theta=theta,
                    attention_bias=bias, tie_word_embeddings=tied)
    if family == "bloom":
        return bloom(hidden_size=heads * d, n_head=heads, n_layer=layers, vocab_size=vocab, tie_word_embeddings=tied,
                     layer_norm_epsilon=r.choice([1e-5, 1e-3]))
    if family == "llama":
        return llama(**kin, hidden_act=act, attention_bias=bias, mlp_bias=r.random() < 0.5, theta=theta, scaling=scaling)
    if family == "mistral":
        return mistral(**kin, theta=theta, sliding_window=r.choice([None, window]))
    if family == "qwen2":
        del kin["head_dim"]
        return qwen2(**{**kin, "hidden_size": heads * d}, theta=theta, scaling=scaling, use_sliding_window=bias,
                     sliding_window=window if bias else None, layer_types=mixed if bias else None)
    if family == "qwen3":
        return qwen3(**kin, theta=theta, attention_bias=bias)
    if family == "gemma2":
        return gemma2(**kin, theta=theta, sliding_window=window, layer_types=mixed, query_pre_attn_scalar=r.choice([4, 9, 16]),
                      attn_logit_softcapping=r.choice([None, 2.0, 50.0]), final_logit_softcapping=r.choice([None, 4.0, 30.0]),
                      pad_token_id=0)
    if family == "gemma3_text":
        return gemma3(**kin, theta=theta, local=r.choice([1000.0, 10000.0]), sliding_window=window, layer_types=mixed,
                      query_pre_attn_scalar=r.choice([4, 9, 16]), pad_token_id=0)
    if family == "phi3":
        half = d // 2
        long = dict(LONGROPE, short_factor=[1.0 + i / 4 for i in range(half)], long_factor=[2.0 + i for i in range(half)])
        return phi3(**{**{k: v for k, v in kin.items() if k != "head_dim"}, "hidden_size": heads * d, "max_position_embeddings": 256},
                    original_max_position_embeddings=64, scaling=r.choice([None, long]), pad_token_id=0,
                    sliding_window=r.choice([None, window]))
    raise ValueError(family)


FAMILIES = ("opt", "gpt2", "gpt_neo", "gptj", "codegen", "gpt_neox", "bloom", "llama", "mistral", "qwen2", "qwen3", "gemma2",
            "gemma3_text", "phi3")
