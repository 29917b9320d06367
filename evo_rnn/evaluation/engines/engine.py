"""What an engine is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Runs exactly `chunk` chromosomes, some whole blocks, over inputs fixed at construction."""

    @property
    def block(self) -> int:
        """P of every product; a function of the model, the shape of the data and the kind of device alone."""
        ...

    @property
    def chunk(self) -> int:
        """How many chromosomes a call takes: a multiple of `block`, which cannot change a bit of any of them."""
        ...

    def __call__(self, genes: Tensor) -> Tensor:
        """Outputs (chunk, B, T, O) float32 of chromosomes (chunk, D); may be a buffer that the next call overwrites."""
        ...
