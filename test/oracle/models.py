"""Tiny OPT and LLaMA checkpoints saved by transformers, each with a float64 oracle beside it.

Writes test/fixtures/models/<name>/: config.json, model.safetensors (or shards and an index) and oracle.safetensors.
README.md lists the tensors of oracle.safetensors.
"""

import copy
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM
from transformers.utils import logging

from exact_float64 import exact_float64

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "models"
CURVE_STEPS = 10
GREEDY_PROMPT = 6
GREEDY_TOKENS = 12


def opt(**fields):
    return OPTForCausalLM(OPTConfig(
        word_embed_proj_dim=fields["hidden_size"], do_layer_norm_before=True, dropout=0.0, attention_dropout=0.0,
        layerdrop=0.0, pad_token_id=1, bos_token_id=2, eos_token_id=2, **fields))


def llama(rope_theta=10000.0, **fields):
    return LlamaForCausalLM(LlamaConfig(
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta}, attention_dropout=0.0,
        bos_token_id=1, eos_token_id=2, **fields))


MODELS = {
    "opt-tiny": dict(
        seed=181, lengths=[5, 12, 2, 40, 23],
        build=lambda: opt(hidden_size=32, num_attention_heads=4, ffn_dim=64, num_hidden_layers=2, vocab_size=97,
                          max_position_embeddings=64, activation_function="relu", tie_word_embeddings=True)),
    "opt-odd": dict(
        seed=402, lengths=[9, 4, 31, 2, 18], shard="40KB",
        build=lambda: opt(hidden_size=30, num_attention_heads=3, ffn_dim=77, num_hidden_layers=3, vocab_size=131,
                          max_position_embeddings=51, activation_function="gelu", tie_word_embeddings=False)),
    "llama-tiny": dict(
        seed=123, lengths=[8, 3, 40, 17, 2],
        build=lambda: llama(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=72,
                            num_hidden_layers=2, vocab_size=101, max_position_embeddings=128,
                            tie_word_embeddings=False)),
    "llama-odd": dict(
        seed=124, lengths=[6, 11, 2, 39, 20], dtype=torch.bfloat16,
        build=lambda: llama(hidden_size=36, num_attention_heads=3, head_dim=14, num_key_value_heads=1,
                            intermediate_size=50, num_hidden_layers=3, vocab_size=67, max_position_embeddings=128,
                            attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_theta=5000.0,
                            rms_norm_eps=1e-5)),
}


@torch.no_grad()
def randomise(model, generator):
    """Every weight gets a value that matters: no zero biases, no unit norms, logits with a spread of about 2."""
    tied = model.config.tie_word_embeddings
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif name.endswith("bias"):
            weight.copy_(0.2 * noise)
        elif "embed_positions" in name:
            weight.copy_(0.4 * noise)
        elif "embed_tokens" in name:
            weight.copy_(noise * (2.0 / weight.shape[1] ** 0.5 if tied else 0.7))
        elif "lm_head" in name:
            weight.copy_(noise * 2.0 / weight.shape[1] ** 0.5)
        else:
            weight.copy_(noise * 1.2 / weight.shape[1] ** 0.5)


def hidden_states(model, ids):
    """ids [T] -> hidden states after the final norm [T, H]; one sequence alone, no padding."""
    return model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]


def token_logprobs(model, ids):
    """ids [T] -> hidden [T, H], log-probs [T] and entropies [T], both 0 at the first token."""
    hidden = hidden_states(model, ids)
    distribution = model.lm_head(hidden).log_softmax(-1)[:-1]
    logprobs = distribution.gather(1, ids[1:, None])[:, 0]
    entropy = -(distribution.exp() * distribution).sum(-1)
    zero = hidden.new_zeros(1)
    return hidden, torch.cat((zero, logprobs)), torch.cat((zero, entropy))


def language_loss(model, sequences, counted):
    logprobs = torch.cat([token_logprobs(model, ids)[1] for ids in sequences])
    weight = counted.to(logprobs.dtype)
    return -(weight * logprobs).sum() / weight.sum()


def loss_curve(model, sequences, counted):
    """Losses before each of ten full-batch AdamW steps; decay on matrices (ndim >= 2) only, global-norm clip 1."""
    model = copy.deepcopy(model)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [w for w in weights if w.ndim >= 2], "weight_decay": 0.1},
         {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(CURVE_STEPS):
        optimizer.zero_grad()
        loss = language_loss(model, sequences, counted)
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)


@torch.no_grad()
def greedy(model, prompt):
    """Greedy continuation; the gap between best and second logit is wide enough for float32 to take the same way."""
    ids = prompt
    for _ in range(GREEDY_TOKENS):
        best = model.lm_head(hidden_states(model, ids)[-1]).topk(2)
        assert best.values[0] - best.values[1] > 1e-2, "greedy choice too close; change the seed"
        ids = torch.cat((ids, best.indices[:1]))
    return ids[len(prompt):]


def gradients(model, prefix):
    return {f"{prefix}.{name}": weight.grad.float().contiguous()
            for name, weight in model.named_parameters() if weight.grad is not None}


def make_oracle(model, spec, generator):
    lengths = torch.tensor(spec["lengths"])
    total = int(lengths.sum())
    ids = torch.randint(model.config.vocab_size, (total,), generator=generator)
    # OPT's padding token has no gradient through the embedding in PyTorch, so it stays out of the inputs.
    if model.config.pad_token_id is not None:
        ids[ids == model.config.pad_token_id] = 0
    counted = (torch.rand(total, generator=generator) < 0.7).int()
    counted[torch.cumsum(lengths, 0) - lengths] = 0
    sequences = list(ids.split(spec["lengths"]))
    head = (torch.randn(model.config.hidden_size, generator=generator) * 0.15).float()

    exact = copy.deepcopy(model).double()
    out = {"input_ids": ids.int(), "lengths": lengths.int(), "counted": counted, "value_weight": head}
    with exact_float64():
        with torch.no_grad():
            parts = [token_logprobs(exact, sequence) for sequence in sequences]
            out["hidden"], out["logprobs"], out["entropy"] = (torch.cat(part) for part in zip(*parts))
            out["values"] = out["hidden"] @ head.double()
        language_loss(exact, sequences, counted).backward()
        out |= gradients(exact, "grad")

        exact.zero_grad(set_to_none=True)
        value_weight = head.double().requires_grad_()
        chosen, rejected = (hidden_states(exact, sequence)[-1] @ value_weight for sequence in sequences[:2])
        pair_loss = -torch.nn.functional.logsigmoid(chosen - rejected)
        pair_loss.backward()
        out["pair_loss"] = pair_loss.detach().reshape(1)
        out |= gradients(exact, "pair_grad")
        out["pair_grad.value_weight"] = value_weight.grad.float()

        exact.zero_grad(set_to_none=True)
        out["curve_f64"] = loss_curve(exact, sequences, counted)
        longest = max(sequences, key=len)
        out["greedy"] = greedy(exact, longest[:GREEDY_PROMPT]).int()
    # float32 with transformers' own code: the loss curve, and a check that the float64 formulas are the same.
    out["curve_f32"] = loss_curve(model.float(), sequences, counted)
    stock = torch.cat([token_logprobs(model.float(), sequence)[1] for sequence in sequences]).detach()
    error = ((stock - out["logprobs"]).abs() / out["logprobs"].abs().clamp(min=1)).max().item()
    assert error < 5e-6, f"float32 transformers and the float64 oracle differ by {error}"
    return out, error


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name, spec in MODELS.items():
        torch.manual_seed(spec["seed"])
        generator = torch.Generator().manual_seed(spec["seed"])
        folder = FIXTURES / name
        shutil.rmtree(folder, ignore_errors=True)
        model = spec["build"]()
        randomise(model, generator)
        model.to(spec.get("dtype", torch.float32)).save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))

        # From here on the weights are those that were stored (bfloat16 ones widened exactly).
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        oracle, error = make_oracle(model, spec, generator)
        save_file({key: value.detach().contiguous() for key, value in oracle.items()}, folder / "oracle.safetensors")

        back = load_file(folder / "oracle.safetensors")
        assert all(torch.equal(back[key], oracle[key]) and torch.isfinite(back[key]).all() for key in oracle)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size} bytes, {len(oracle)} tensors, float32 error {error:.1e}, "
              f"loss {oracle['curve_f64'][0]:.3f} -> {oracle['curve_f64'][-1]:.3f}")


if __name__ == "__main__":
    main()
