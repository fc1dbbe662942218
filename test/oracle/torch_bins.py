"""Files of torch.save in every layout that the reader of pytorch_model.bin has to know.

Writes test/fixtures/bins/<name>/: pytorch_model.bin (or shards and an index) and model.safetensors.expected with the
same tensors, contiguous, from the safetensors library. Two hostile files have no tensors to compare with.
"""

import builtins
import json
import os
import shutil
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "bins"
BIN = "pytorch_model.bin"


def numbers(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def write(name, value, tensors, **options):
    """torch.save's file and, beside it, the tensors that a reader should find in it."""
    folder = OUT / name
    folder.mkdir(parents=True)
    torch.save(value, folder / BIN, **options)
    finish(name, folder, tensors)


def finish(name, folder, tensors):
    if tensors is not None:
        # Clones: safetensors refuses tensors that share bytes.
        save_file({key: t.detach().clone().contiguous() for key, t in tensors.items()}, folder / "model.safetensors.expected")
        found = {}
        for file in sorted(folder.glob("*.bin")):
            found.update(flat(torch.load(file, weights_only=False)))
        assert found.keys() == tensors.keys(), name
        assert all(torch.equal(found[key].float(), tensors[key].float()) for key in tensors), name
    sizes = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name:24s} {len(tensors or {}):2d} tensors {sizes:6d} bytes")


def flat(value):
    for key in ("state_dict", "model", "module"):
        if isinstance(value.get(key), dict):
            return flat(value[key])
    return {key: t for key, t in value.items() if isinstance(t, torch.Tensor)}


def dtypes():
    whole = torch.randint(-100, 100, (3, 5), generator=GENERATOR)
    return OrderedDict(
        f32=numbers(3, 7), f16=numbers(7).half(), bf16=numbers(1, 33).bfloat16(), f64=numbers(2, 3).double(),
        i64=whole * 10**12, i32=whole.int() * 10**6, i16=whole.short() * 300, i8=whole.to(torch.int8),
        u8=whole.abs().to(torch.uint8), bool=whole > 0, scalar=torch.tensor(2.5), empty=torch.zeros(0, 4),
    )


def module():
    """The state dict of a module: an OrderedDict with `_metadata`, of parameters and buffers."""
    torch.manual_seed(5)
    return torch.nn.Sequential(OrderedDict(a=torch.nn.Linear(3, 2), norm=torch.nn.BatchNorm1d(2))).state_dict()


def views():
    base = numbers(4, 6)
    wide = torch.randint(0, 2**40, (3, 4), generator=GENERATOR)
    return OrderedDict(
        base=base, transposed=base.t(), slice=base[1:3, 2:5], row=base[2], column=base[:, 3], every_second=base[:, ::2],
        cube=numbers(2, 3, 4).permute(2, 0, 1), wide=wide.t(), halves=numbers(5, 3).bfloat16().t(),
        bytes=torch.arange(12, dtype=torch.uint8).view(3, 4).t(), one_column=numbers(1, 4).t(),
    )


def tied():
    table = torch.nn.Parameter(numbers(5, 3))
    return OrderedDict([("embed.weight", table), ("lm_head.weight", table), ("scale", numbers(3))])


def reward(prefix, backbone):
    hidden = 4
    names = {
        "opt": ["decoder.embed_tokens.weight", "decoder.layers.0.fc1.weight"],
        "llama": ["embed_tokens.weight", "layers.0.mlp.up_proj.weight", "norm.weight"],
    }[backbone]
    tensors = OrderedDict((prefix + name, numbers(3, hidden)) for name in names)
    tensors["v_head.weight"] = numbers(1, hidden)
    return tensors


def sharded():
    name, folder = "sharded", OUT / "sharded"
    folder.mkdir(parents=True)
    tensors = {f"layers.{i}.weight": numbers(2, 3 + i) for i in range(5)}
    names = list(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[:2], "pytorch_model-00002-of-00002.bin": names[2:]}
    for file, keys in shards.items():
        torch.save({key: tensors[key] for key in keys}, folder / file)
    index = {
        "metadata": {"total_size": sum(t.numel() * 4 for t in tensors.values())},
        "weight_map": {key: file for file, keys in shards.items() for key in keys},
    }
    (folder / f"{BIN}.index.json").write_text(json.dumps(index, indent=1) + "\n")
    finish(name, folder, tensors)


def repack(name, compression, wide):
    """The archive written again by Python's zipfile: deflated, or with every size in zip64 fields."""
    tensors = {"w": numbers(6, 5), "b": numbers(6)}
    folder = OUT / name
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "plain.bin"
        torch.save(tensors, plain)
        limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
        if wide:
            zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 0, 0
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(folder / BIN, "w", compression) as target:
            for entry in source.namelist():
                # A fixed date, so that two runs write the same bytes.
                info = zipfile.ZipInfo(entry)
                info.compress_type = compression
                target.writestr(info, source.read(entry))
        zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits
    finish(name, folder, tensors)


class Calls:
    """Pickled as a call of a function, which an ordinary unpickler then runs."""

    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def main():
    global GENERATOR
    GENERATOR = torch.Generator().manual_seed(11)
    shutil.rmtree(OUT, ignore_errors=True)
    all_types = dtypes()
    write("zip", all_types, all_types)
    write("legacy", all_types, all_types, _use_new_zipfile_serialization=False)
    module_of = module()
    write("module", module_of, module_of)
    write("protocol1", all_types, all_types, pickle_protocol=1)
    write("protocol5", all_types, all_types, pickle_protocol=5)
    views_of = views()
    write("views", views_of, views_of)
    write("views-legacy", views_of, views_of, _use_new_zipfile_serialization=False)
    tied_of = tied()
    write("tied", tied_of, tied_of)
    inner = {"w": numbers(2, 2), "b": numbers(2)}
    write("nested", {"epoch": 3, "loss": torch.tensor(0.5), "lr": 1e-5, "big": 1 << 80, "done": False, "rng": b"\x00\xff" * 2,
                     "args": ["x", (1, None)], "state_dict": inner}, inner, pickle_protocol=4)
    write("deepspeed-engine", {"module": {"model": inner}, "global_steps": 7}, inner)
    newer = {"u16": torch.arange(6).to(torch.uint16), "f8": numbers(2, 3).to(torch.float8_e4m3fn)}
    write("new-dtypes", newer, newer)
    for name, prefix, backbone in [("reward-opt", "rwtransformer.", "opt"), ("reward-opt-misspelt", "rwtranrsformer.", "opt"),
                                   ("reward-llama-misspelt", "rwtranrsformer.", "llama")]:
        tensors = reward(prefix, backbone)
        write(name, tensors, tensors)
    sharded()
    repack("zip64", zipfile.ZIP_STORED, True)
    repack("deflated", zipfile.ZIP_DEFLATED, False)
    write("calls-system", {"w": numbers(2), "x": Calls(os.system, "echo ran")}, None)
    # Protocol 4 names a global by two strings of the stack.
    write("calls-eval", {"w": numbers(2), "x": Calls(builtins.eval, "print('ran')")}, None, pickle_protocol=4)
    write("calls-system-legacy", {"w": numbers(2), "x": Calls(os.system, "echo ran")}, None, _use_new_zipfile_serialization=False)
    write("no-tensors", {"epoch": 3}, None)
    total = sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file())
    assert total < 150_000, total
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
