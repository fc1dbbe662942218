"""Makes transformers compute in true float64.

`model.double()` is not enough: attention softmaxes, RMSNorms, rotary frequencies and angles ask for float32 by name, which
would leave errors near 1e-6 in the oracle. Inside `exact_float64()` whatever asks for float32 gets float64, at the level of
single tensor operations, so that every model family runs its own unchanged code. models.py checks that stock float32
agrees to float32 rounding.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Float64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        wide = lambda x: torch.float64 if x is torch.float32 else x
        return func(*(wide(a) for a in args), **{key: wide(value) for key, value in (kwargs or {}).items()})


@contextmanager
def exact_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            yield
    finally:
        torch.set_default_dtype(before)
