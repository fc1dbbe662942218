"""Makes transformers' OPT and LLaMA compute in true float64.

`model.double()` is not enough: the eager attention softmax, LlamaRMSNorm and the rotary angles are hard-wired to
float32, which would leave errors near 1e-6 in the oracle. Inside `exact_float64()` those four functions are replaced
by the same formulas without the cast. models.py checks that both versions agree to float32 rounding.
"""

from contextlib import contextmanager

import torch
from transformers.models.llama import modeling_llama
from transformers.models.opt import modeling_opt


def _attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """query [B, N, T, D], key and value [B, Nkv, T, D] -> ([B, T, N, D], probabilities)."""
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, dim=1)
    value = value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling
    length = query.shape[2]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    probabilities = scores.masked_fill(future, float("-inf")).softmax(-1)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


def _rms_norm(self, hidden):
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def _rotary(self, x, position_ids):
    config = self.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    inverse = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = position_ids[..., None].double() * inverse
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


@contextmanager
def exact_float64():
    patches = [
        (modeling_llama, "eager_attention_forward", _attention),
        (modeling_opt, "eager_attention_forward", _attention),
        (modeling_llama.LlamaRMSNorm, "forward", _rms_norm),
        (modeling_llama.LlamaRotaryEmbedding, "forward", _rotary),
    ]
    originals = [getattr(owner, name) for owner, name, _ in patches]
    for owner, name, replacement in patches:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(patches, originals):
            setattr(owner, name, original)
