"""Memory orders of the fused engine: how a block's weights and values lie, and how the two are multiplied.

Everything else sees values as (P, rows, B) and weights as (P, rows, columns), whatever their order in memory:

* lanes: values [rows, P, B]; multiply and add up. Best for the smallest networks: no call per network.
* row: values [P, B, rows]; best for fewer than eight sequences.
* column: values [P, rows, B]; best otherwise.

Determinism: the same network must give the same bits in every slot of a block, and kernels may choose how they add up
by the address they start at. So every matrix begins at a multiple of 64 bytes, and sums over lanes are whole vectors.
A chunk of several blocks takes its products block by block, each as if it were alone, and shares the passes over single
values; so how many blocks a chunk has cannot change a bit. That is for GPUs; a processor's cache holds one block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

LANE = 16  # float32 in 64 bytes: a cache line, and the widest vector register
CACHE = {"cpu": 1 << 19, "cuda": 1 << 24}  # float32 that a block may work on at once: 2 MiB of cache, 64 MiB of a GPU
SMALL = 1024  # multiplications a step up to which lanes win
BLOCKS = {"cpu": (16, 128), "cuda": (128, 1024)}  # fewest and most chromosomes a block: on a GPU a product is a launch
CHUNK = 256  # most sequences at once

Call = Callable[[], object]
T = TypeVar("T")


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
        blocks: of a chunk; P of values and weights is that of the chunk.
    """

    order: Literal["lanes", "row", "column"]
    block: int
    batch: int
    device: torch.device
    blocks: int = 1

    @property
    def chunk(self) -> int:
        """Chromosomes in all blocks."""
        return self.block * self.blocks

    @property
    def window(self) -> int:
        """float32 that a window of several steps may have, in one block."""
        return _of_kind(CACHE, self.device) // 8

    def values(self, rows: int, slots: int = 1) -> Tensor:
        """Zeros (slots, P, rows, B)."""
        zeros = partial(torch.zeros, device=self.device)
        if self.order == "lanes":
            return zeros(slots, rows, self.block, self.batch).transpose(1, 2)
        if self.order == "row":
            return zeros(slots, self.chunk, self.batch, padded(rows)).transpose(2, 3)[:, :, :rows]
        return zeros(slots, self.chunk, rows, self.batch)

    def weight(self, rows: int, columns: int) -> Tensor:
        """Zeros (P, rows, columns, L); the L copies are equal (1, or B in the lanes order)."""
        zeros = partial(torch.zeros, device=self.device)
        if self.order == "lanes":
            return zeros(columns, rows, self.block, self.batch).permute(2, 1, 0, 3)
        if self.order == "row":
            return zeros(self.chunk, columns, padded(rows)).transpose(1, 2)[:, :rows, :, None]
        return zeros(self.chunk, rows, padded(columns))[:, :, :columns, None]

    def product(self, weight: Tensor, values: Tensor, out: Tensor) -> list[Call]:
        """The calls that compute out (P, rows, B) = weight (P, rows, columns, L) times values (P, columns, B)."""
        if self.order == "lanes":
            weight, values = weight.permute(2, 1, 0, 3), values.transpose(0, 1)[:, None]
            terms = torch.empty_like(weight)
            return [
                partial(torch.mul, weight, values, out=terms),
                partial(torch.sum, terms, 0, out=out.transpose(0, 1)),
            ]
        left, right, into = weight[..., 0], values, out
        if self.order == "row":
            left, right, into = values.transpose(1, 2), _whole(left), _whole(out)
        return [
            partial(torch.bmm, a, b, out=c)
            for a, b, c in zip(left.split(self.block), right.split(self.block), into.split(self.block), strict=True)
        ]


def _whole(view: Tensor) -> Tensor:
    """The row order's view (P, rows, N) with its padding, as it lies in memory: [P, N, padded rows]."""
    block, rows, other = view.shape
    return view.as_strided((block, other, padded(rows)), (view.stride(0), view.stride(2), 1))


def _of_kind(table: dict[str, T], device: torch.device) -> T:
    return table.get(device.type, table["cpu"])


def plane(size: int, values: int, batch: int, device: torch.device, blocks: int = 1) -> Plane:
    """The memory order, the block and the width of the batch: functions of the network, the data and the kind of device.

    Lanes are for processors, and one block of them: their sums run over a whole matrix.

    Args:
        size: multiplications of one step of one network on one sequence.
        values: numbers that such a step works on beside the weights.
        batch: B.
        device: where the data lies.
        blocks: how many to take at once, if the order allows it.
    """
    width = batch
    order: Literal["lanes", "row", "column"] = "row" if batch < 8 else "column"
    if size * batch <= SMALL and device.type != "cuda":
        order, blocks, size = "lanes", 1, 2 * size * batch
    if order == "column":
        chunks = -(-batch // CHUNK)
        width = padded(-(-batch // chunks))
    fit = max(_of_kind(CACHE, device) // (size + values * width), 1)
    fewest, most = _of_kind(BLOCKS, device)
    block = min(max(1 << (fit.bit_length() - 1), fewest), most)
    return Plane(order, block, width, device, blocks)
