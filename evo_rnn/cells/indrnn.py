"""Independently recurrent network (Li et al. 2018, arXiv 1803.04831, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


@dataclass(frozen=True)
class IndRNN:
    """h' = f(W x + u h + b) with one recurrent weight a unit: each unit hears only itself.

    Args:
        inputs: I.
        hidden: H.
        activation: "relu" (the paper's) or "tanh".
    """

    inputs: int
    hidden: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation should be one of {sorted(ACTIVATIONS)} but is {self.activation!r}.")

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """H."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, I), u (H,) drawn from [0, 1], b (H,)."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (matrix("input", h, x), vector("recurrent", h, h, 0.0, 1.0), vector("bias", h, ["one"], -0.5, 0.5))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick."""
        driven = affine(weights["input"], x, row(weights["bias"]))
        return ACTIVATIONS[self.activation](driven + row(weights["recurrent"]) * s)
