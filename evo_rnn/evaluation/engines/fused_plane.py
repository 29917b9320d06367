"""Memory orders of the fused engine: how a block's weights and values lie, and how the two are multiplied.

Everything else sees values as (P, rows, B) and weights as (P, rows, columns), whatever their order in memory:

* lanes: values [rows, P, B]; multiply and add up. Best for the smallest networks: no call per network.
* row: values [P, B, rows]; best for fewer than eight sequences.
* column: values [P, rows, B]; best otherwise.

Determinism: the same network must give the same bits in every slot of a block, and kernels may choose how they add up
by the address they start at. So every matrix begins at a multiple of 64 bytes, and sums over lanes are whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

LANE = 16  # float32 in 64 bytes: a cache line, and the widest vector register
CACHE = 1 << 19  # float32 that a block may work on at once: 2 MiB
WINDOW = CACHE // 8  # float32 that a window of several steps may have
SMALL = 1024  # multiplications a step up to which lanes win
BLOCKS = (16, 128)  # fewest and most chromosomes a block
CHUNK = 256  # most sequences at once

Call = Callable[[], object]


def padded(count: int, unit: int = LANE) -> int:
    """`count` rounded up to a multiple of `unit`."""
    return -(-count // unit) * unit


@dataclass(frozen=True)
class Plane:
    """Where a block of P networks on B sequences keeps its numbers.

    Args:
        order: "lanes", "row" or "column".
        block: P.
        batch: B, with padding in the column order.
        device: where the tensors lie.
    """

    order: Literal["lanes", "row", "column"]
    block: int
    batch: int
    device: torch.device

    def values(self, rows: int, slots: int = 1) -> Tensor:
        """Zeros (slots, P, rows, B)."""
        zeros = partial(torch.zeros, device=self.device)
        if self.order == "lanes":
            return zeros(slots, rows, self.block, self.batch).transpose(1, 2)
        if self.order == "row":
            return zeros(slots, self.block, self.batch, padded(rows)).transpose(2, 3)[:, :, :rows]
        return zeros(slots, self.block, rows, self.batch)

    def weight(self, rows: int, columns: int) -> Tensor:
        """Zeros (P, rows, columns, L); the L copies are equal (1, or B in the lanes order)."""
        zeros = partial(torch.zeros, device=self.device)
        if self.order == "lanes":
            return zeros(columns, rows, self.block, self.batch).permute(2, 1, 0, 3)
        if self.order == "row":
            return zeros(self.block, columns, padded(rows)).transpose(1, 2)[:, :rows, :, None]
        return zeros(self.block, rows, padded(columns))[:, :, :columns, None]

    def product(self, weight: Tensor, values: Tensor, out: Tensor) -> list[Call]:
        """The calls that compute out (P, rows, B) = weight (P, rows, columns, L) times values (P, columns, B)."""
        if self.order == "lanes":
            weight, values = weight.permute(2, 1, 0, 3), values.transpose(0, 1)[:, None]
            terms = torch.empty_like(weight)
            return [
                partial(torch.mul, weight, values, out=terms),
                partial(torch.sum, terms, 0, out=out.transpose(0, 1)),
            ]
        if self.order == "row":
            return [partial(torch.bmm, values.transpose(1, 2), _whole(weight[..., 0]), out=_whole(out))]
        return [partial(torch.bmm, weight[..., 0], values, out=out)]


def _whole(view: Tensor) -> Tensor:
    """The row order's view (P, rows, N) with its padding, as it lies in memory: [P, N, padded rows]."""
    block, rows, other = view.shape
    return view.as_strided((block, other, padded(rows)), (view.stride(0), view.stride(2), 1))


def plane(size: int, values: int, batch: int, device: torch.device) -> Plane:
    """The memory order, the block and the width of the batch: functions of the network and the data alone.

    Args:
        size: multiplications of one step of one network on one sequence.
        values: numbers that such a step works on beside the weights.
        batch: B.
        device: where the data lies.
    """
    width = batch
    order: Literal["lanes", "row", "column"] = "row" if batch < 8 else "column"
    if size * batch <= SMALL:
        order, size = "lanes", 2 * size * batch
    if order == "column":
        chunks = -(-batch // CHUNK)
        width = padded(-(-batch // chunks))
    fit = max(CACHE // (size + values * width), 1)
    block = min(max(1 << (fit.bit_length() - 1), BLOCKS[0]), BLOCKS[1])
    return Plane(order, block, width, device)
