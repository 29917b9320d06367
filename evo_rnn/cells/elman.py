"""Elman network (Elman 1990, Finding structure in time, Cognitive Science 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights


@dataclass(frozen=True)
class Elman:
    """h' = tanh(W x + U h + b): hidden units that see their own last values."""

    inputs: int
    hidden: int

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """H."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, I), U (H, H), b (H,)."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (matrix("input", h, x), matrix("recurrent", h, h), vector("bias", h, ["one"], -0.5, 0.5))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick of all units at once."""
        driven = affine(weights["input"], x, row(weights["bias"]))
        return torch.tanh(affine(weights["recurrent"], s, driven))
