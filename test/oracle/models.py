"""Tiny checkpoints of every family saved by transformers, each with a float64 oracle beside it.

    models.py                          the fixtures: test/fixtures/models/<name>/
    models.py --random 5 --out DIR     five random configurations of every family, for checkModels.ts

Each folder holds config.json, model.safetensors (or shards and an index) and oracle.safetensors; README.md lists the
tensors of oracle.safetensors.
"""

import argparse
import copy
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from exact_float64 import exact_float64
from families import FAMILIES, FIXTURES, random_config

FIXTURE_FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "models"
CURVE_STEPS = 10
GREEDY_PROMPT = 6
GREEDY_TOKENS = 12


@torch.no_grad()
def randomise(model, generator):
    """Every weight gets a value that matters: no zero biases, no unit norms, logits with a spread of about 2."""
    tied = model.config.tie_word_embeddings
    centre = 0.0 if model.config.model_type.startswith("gemma") else 1.0  # Gemma adds 1 to the weights of its norms
    outer = model.get_output_embeddings().weight
    inner = model.get_input_embeddings().weight
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight is inner:
            scale = model.config.hidden_size ** 0.5 if model.config.model_type.startswith("gemma") else 1.0
            weight.copy_(noise * (2.0 / weight.shape[1] ** 0.5 if tied else 0.7 / scale))
        elif weight is outer:
            weight.copy_(noise * 2.0 / weight.shape[1] ** 0.5)
        elif name.endswith("bias"):
            weight.copy_(0.2 * noise)
        elif weight.ndim == 1:
            weight.copy_(0.2 * noise + centre)
        elif "embed_positions" in name or "wpe" in name:
            weight.copy_(0.4 * noise)
        else:
            fan_in = weight.shape[0] if type(model.get_submodule(name.rsplit(".", 1)[0])).__name__ == "Conv1D" else weight.shape[1]
            weight.copy_(noise * 1.2 / fan_in ** 0.5)


def hidden_states(model, ids):
    """ids [T] -> hidden states as the head takes them [T, E]; one sequence alone, no padding."""
    return model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]


def logits_of(model, hidden):
    logits = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def token_logprobs(model, ids):
    """ids [T] -> hidden [T, H], log-probs [T] and entropies [T], both 0 at the first token."""
    hidden = hidden_states(model, ids)
    distribution = logits_of(model, hidden).to(torch.promote_types(hidden.dtype, torch.float32)).log_softmax(-1)[:-1]
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
        best = logits_of(model, hidden_states(model, ids)[-1]).topk(2)
        if best.values[0] - best.values[1] <= 1e-2:
            raise TooClose("greedy choice too close; change the seed")
        ids = torch.cat((ids, best.indices[:1]))
    return ids[len(prompt):]


class TooClose(Exception):
    """A greedy choice that float32 might make the other way."""


def gradients(model, prefix):
    return {f"{prefix}.{name}": weight.grad.float().contiguous()
            for name, weight in model.named_parameters() if weight.grad is not None}


def make_oracle(folder, lengths, generator):
    # The weights are those that were stored (bfloat16 ones widened exactly).
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    config = stock.config
    total = sum(lengths)
    ids = torch.randint(config.vocab_size, (total,), generator=generator)
    # The padding token has no gradient through the embedding in PyTorch, so it stays out of the inputs.
    if config.pad_token_id is not None:
        ids[ids == config.pad_token_id] = 3
    counted = (torch.rand(total, generator=generator) < 0.7).int()
    cut = torch.tensor(lengths)
    counted[torch.cumsum(cut, 0) - cut] = 0
    sequences = list(ids.split(lengths))
    width = stock.get_input_embeddings().weight.shape[1]
    head = (torch.randn(width, generator=generator) * 0.15).float()

    out = {"input_ids": ids.int(), "lengths": cut.int(), "counted": counted, "value_weight": head}
    with exact_float64():
        exact = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").double().eval()
        exact.load_state_dict({name: weight.double() for name, weight in stock.state_dict().items()})
        assert all(weight.dtype == torch.float64 for weight in exact.parameters())
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
        out["pair_grad.value_weight"] = value_weight.grad

        exact.zero_grad(set_to_none=True)
        out["curve_f64"] = loss_curve(exact, sequences, counted)
        longest = max(sequences, key=len)
        out["greedy"] = greedy(exact, longest[:GREEDY_PROMPT]).int()
    # Gradients are kept in float32: a bound of 1e-4 needs no more. GPT-NeoX's head has another name in its files.
    out = {name: value.float() if "grad." in name else value for name, value in out.items()}
    if config.model_type == "gpt_neox":
        out = {name.replace("lm_head.", "embed_out."): value for name, value in out.items()}
    # float32 with transformers' own code: the loss curve, and a check that the float64 formulas are the same.
    out["curve_f32"] = loss_curve(stock, sequences, counted)
    plain = torch.cat([token_logprobs(stock, sequence)[1] for sequence in sequences]).detach()
    error = ((plain - out["logprobs"]).abs() / out["logprobs"].abs().clamp(min=1)).max().item()
    assert error < 2e-5, f"float32 transformers and the float64 oracle differ by {error}"
    # What bfloat16 costs transformers on the same weights: the worst and the mean distance from the exact log-probs.
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    with torch.no_grad():
        rounded = torch.cat([token_logprobs(half, sequence)[1] for sequence in sequences])
    gap = (rounded.double() - out["logprobs"]).abs()
    out["bf16_gap"] = torch.stack((gap.max(), gap.sum() / (total - len(sequences))))
    return out, error


def make(folder, spec):
    generator = torch.Generator().manual_seed(spec["seed"])
    torch.manual_seed(spec["seed"])
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(spec["config"]())
    randomise(model, generator)
    model.to(spec.get("dtype", torch.float32)).save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))
    oracle, error = make_oracle(folder, spec["lengths"], generator)
    save_file({key: value.detach().contiguous() for key, value in oracle.items()}, folder / "oracle.safetensors")

    back = load_file(folder / "oracle.safetensors")
    assert all(torch.equal(back[key], oracle[key]) and torch.isfinite(back[key]).all() for key in oracle)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {size} bytes, {len(oracle)} tensors, float32 error {error:.1e}, "
          f"loss {oracle['curve_f64'][0]:.3f} -> {oracle['curve_f64'][-1]:.3f}", flush=True)


def make_clear(folder, spec):
    """Tries seeds until no greedy choice is too close to call."""
    for attempt in range(100):
        try:
            return make(folder, {**spec, "seed": spec["seed"] + 1000 * attempt})
        except TooClose:
            continue
    raise RuntimeError(f"{folder}: no seed gives clear greedy choices")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="fixtures to make; without it all")
    parser.add_argument("--random", type=int, default=0, help="random configurations of each family instead")
    parser.add_argument("--out", type=Path, help="where to put the random ones")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if args.random:
        for family in FAMILIES:
            for index in range(args.random):
                spec = dict(seed=index, lengths=[7, 12, 2, 33], config=lambda: random_config(family, index))
                make_clear(args.out / f"{family}-{index}", spec)
        return
    for name, spec in FIXTURES.items():
        if not args.names or name in args.names:
            make_clear(FIXTURE_FOLDER / name, spec)


if __name__ == "__main__":
    main()
