"""Round trip of every fixture checkpoint: transformers -> threefold -> transformers.

    npx tsx test/oracle/roundTrip.ts /tmp/roundtrip
    python -B test/oracle/round_trip.py /tmp/roundtrip

For each family: logits of the saved model are bit-equal to those of the fixture; a bf16 and an fp16 conversion hold
exactly the weights that torch casts to; the saved reward model gives, in transformers, the score that threefold gave,
and saved a second time the same score again.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "models"


def load(cls, folder, dtype=torch.float32):
    model, info = cls.from_pretrained(folder, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    # an absolute mask buffer of old checkpoints aside, nothing may be new or left over
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], (folder, info)
    return model.eval()


def tensors(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        if file.name == "oracle.safetensors":
            continue
        with safe_open(file, "pt") as f:
            found.update({name: f.get_tensor(name) for name in f.keys()})
    return found


def check(out):
    name, fixture = out.name, FIXTURES / out.name
    case = json.loads((out / "scores.json").read_text())
    ids = torch.tensor([case["ids"]])
    with torch.no_grad():
        before = load(AutoModelForCausalLM, fixture)(ids).logits
        after = load(AutoModelForCausalLM, out / "saved")(ids).logits
        assert torch.equal(before, after), f"{name}: logits differ by {(before - after).abs().max()}"
        assert tensors(out / "saved").keys() == tensors(fixture).keys(), f"{name}: other names"
        for dtype, torch_dtype in [("bf16", torch.bfloat16), ("fp16", torch.float16)]:
            load(AutoModelForCausalLM, out / dtype, torch_dtype)
            converted, stock = tensors(out / dtype), tensors(fixture)
            for key, value in converted.items():
                assert torch.equal(value, stock[key].to(torch_dtype)), f"{name}: {dtype} {key}"
        first, again = case["scores"]
        assert first == again, f"{name}: {first} became {again}"
        if type(AutoConfig.from_pretrained(out / "reward")) in AutoModelForSequenceClassification._model_mapping:
            reward = load(AutoModelForSequenceClassification, out / "reward")
            reward.config.pad_token_id = 0
            score = reward(ids).logits.item()
            gap = abs(score - first) / max(1, abs(score))
            assert gap < 2e-5, f"{name}: score {score}, threefold {first}"
            shown = f"{score:+.6f}"
        else:
            shown = "has no class"  # in transformers: CodeGen
    print(f"{name:12} logits equal ({before.numel()}), bf16 and fp16 weights equal ({len(converted)} tensors), "
          f"reward score {shown}, threefold {first:+.6f}, saved again {again:+.6f}")


if __name__ == "__main__":
    folders = sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.is_dir())
    assert folders, sys.argv[1]
    for folder in folders:
        check(folder)
    print(f"{len(folders)} of {len(folders)} checkpoints, transformers {transformers.__version__}")
