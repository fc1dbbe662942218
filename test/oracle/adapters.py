"""LoRA adapters saved by PEFT on the fixtures of models.py, each with a float64 oracle: test/fixtures/adapters/<name>/.

oracle.safetensors holds, for the rows of the base's own oracle: log-probs of the unmerged model [T], the gradient of each
factor under its PEFT name, and the losses before each of ten AdamW steps on the factors alone (decay 0.1, clip 1).
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from exact_float64 import exact_float64
from models import CURVE_STEPS, FIXTURE_FOLDER, token_logprobs

ADAPTER_FOLDER = FIXTURE_FOLDER.parent / "adapters"
# fused matrices stored [in, out], separate ones, some of the modules, one fused for all heads in turns
CASES = {
    "gpt2": dict(target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True),
    "llama-tiny": dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "opt-tiny": dict(target_modules=["q_proj", "v_proj"]),
    "neox": dict(target_modules=["query_key_value", "dense_4h_to_h"], use_rslora=True),
}


def loss_of(model, sequences, counted):
    logprobs = torch.cat([token_logprobs(model, ids)[1] for ids in sequences])
    weight = counted.to(logprobs.dtype)
    return -(weight * logprobs).sum() / weight.sum()


def factors(peft):
    return {name.replace(".default", ""): weight for name, weight in peft.named_parameters() if "lora_" in name}


def make(name, config):
    folder = ADAPTER_FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(5)
    base = FIXTURE_FOLDER / name
    stored = load_file(base / "oracle.safetensors")
    sequences, counted = list(stored["input_ids"].long().split(stored["lengths"].tolist())), stored["counted"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    peft = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for key, weight in factors(peft).items():
            weight.copy_(torch.randn(weight.shape) * (weight.shape[1] ** -0.5 if "lora_A" in key else 0.3))
    peft.save_pretrained(folder)
    # the base by a path that holds wherever the repository lies
    described = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**described, "base_model_name_or_path": f"../../models/{name}"}, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)

    exact = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    peft = PeftModel.from_pretrained(exact, folder, is_trainable=True).eval()
    inner = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    with exact_float64():
        # constants made in the constructor (rotary frequencies) are float64 ones only where it runs in here
        fresh = AutoModelForCausalLM.from_config(copy.deepcopy(inner.config), attn_implementation="eager").double().eval()
        fresh.load_state_dict({key: weight.double() for key, weight in inner.state_dict().items()})
        wrapped = get_peft_model(fresh, LoraConfig(**{**config, "r": 3, "lora_alpha": 5, "task_type": "CAUSAL_LM"})).double().eval()
        wrapped.load_state_dict({key: weight.double() for key, weight in peft.state_dict().items()})
        peft, inner = wrapped, wrapped.get_base_model()
        with torch.no_grad():
            out = {"logprobs": torch.cat([token_logprobs(inner, ids)[1] for ids in sequences])}
        loss_of(inner, sequences, counted).backward()
        weights = factors(peft)
        out |= {f"grad.{key}": weight.grad.clone() for key, weight in weights.items()}
        optimizer = torch.optim.AdamW(weights.values(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        losses = []
        for _ in range(CURVE_STEPS):
            optimizer.zero_grad()
            loss = loss_of(inner, sequences, counted)
            losses.append(loss.item())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
        out["curve"] = torch.tensor(losses, dtype=torch.float64)
    out = {key: value.float() if "grad." in key else value for key, value in out.items()}
    save_file({key: value.detach().contiguous() for key, value in out.items()}, folder / "oracle.safetensors")
    print(f"{name}: {len(weights)} factors, loss {losses[0]:.3f} -> {losses[-1]:.3f}, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name, config in CASES.items():
        make(name, config)
