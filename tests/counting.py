"""Multiply-adds as they happen: of matrix products, and of products entry by entry."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = {aten.mm: (0, 1), aten.bmm: (0, 1), aten.addmm: (1, 2), aten.baddbmm: (1, 2)}
ENTRIES = {aten.mul, aten.mul_, aten.addcmul, aten.addcmul_}


class Counted(TorchDispatchMode):
    """Counts inside a `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0  # multiply-adds of matrix products
        self.entries = 0  # multiplications entry by entry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[packet])
            self.products += prod(left.shape) * right.shape[-1]
        elif packet in ENTRIES and isinstance(out, Tensor) and all(isinstance(each, Tensor) for each in args[:2]):
            self.entries += out.numel()
        return out

    @property
    def total(self) -> int:
        return self.products + self.entries
