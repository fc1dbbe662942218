"""LoRA adapters trained and saved by threefold, loaded in PEFT.

    npx tsx test/oracle/adapterTrip.ts /tmp/adapters
    python -B test/oracle/adapter_trip.py /tmp/adapters

For each family: PEFT's log-probs with the factors apart, and merged by PEFT, are those that threefold gave from its merged
weights, in fp32; and in bf16 the two forms are apart by what bf16 rounds away.
"""

import json
import pathlib
import sys
import warnings

import peft
import torch
from peft import AutoPeftModelForCausalLM
from transformers.utils import logging

warnings.filterwarnings("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()


def logprobs(model, ids):
    with torch.no_grad():
        return model(ids).logits.float()[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def gap(a, b):
    return ((a - b).abs() / b.abs().clamp(min=1)).max().item()


def check(folder):
    case = json.loads((folder / "scores.json").read_text())
    ids, ours = torch.tensor([case["ids"]]), torch.tensor(case["logprobs"])
    adapter = folder / "sft" / "adapter"
    apart = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32, attn_implementation="eager").eval()
    unused = [k for k, w in apart.named_parameters() if "lora_B" in k and not w.any()]
    assert not unused, f"{folder.name}: factors that did not load {unused[:3]}"
    gaps = [gap(ours, logprobs(apart, ids)), gap(ours, logprobs(apart.merge_and_unload(), ids))]
    assert max(gaps) < 2e-5, (folder.name, gaps)
    half = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.bfloat16, attn_implementation="eager").eval()
    base = gap(logprobs(half, ids), ours)
    rounding = gap(logprobs(half.merge_and_unload(), ids), ours)
    print(f"{folder.name:12} fp32: apart {gaps[0]:.1e}, merged {gaps[1]:.1e} from threefold; bf16: apart {base:.1e}, merged {rounding:.1e}")


if __name__ == "__main__":
    folders = sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.is_dir())
    assert folders, sys.argv[1]
    for folder in folders:
        check(folder)
    print(f"{len(folders)} of {len(folders)} adapters, PEFT {peft.__version__}")
