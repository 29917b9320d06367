"""What an engine is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Runs exactly `block` chromosomes over inputs fixed at construction."""

    @property
    def block(self) -> int:
        """How many chromosomes are run together; a function of the model and the shape of the data alone."""
        ...

    def __call__(self, genes: Tensor) -> Tensor:
        """Outputs (block, B, T, O) float32 of chromosomes (block, D); may be a buffer that the next call overwrites."""
        ...
