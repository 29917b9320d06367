"""What a recurrent cell is: one pure step of a whole population, and the weights it needs.

A cell never loops over time and keeps no state of its own, so one cell serves evolution, BPTT, RTRL and topology alike.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from evo_rnn.layout import Leaf
from evo_rnn.shapes import Weights


class Cell(Protocol):
    """One pure step of P networks over B sequences. The first `outputs` columns of the state are the output.

    Cells are values (frozen dataclasses): equal cells are the same cell, so they have a hash.
    """

    def __hash__(self) -> int:
        """Of its settings."""
        ...

    @property
    def inputs(self) -> int:
        """I, the number of inputs."""
        ...

    @property
    def outputs(self) -> int:
        """The number of leading state columns that are the cell's output."""
        ...

    @property
    def state(self) -> int:
        """S, the number of state columns."""
        ...

    def leaves(self) -> tuple[Leaf, ...]:
        """The weights that the cell needs."""
        ...

    def start(self, weights: Weights, batch: int) -> Tensor:
        """The state (P, B, S) before the first step."""
        ...

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """The next state (P, B, S) from inputs (P, B, I) and state (P, B, S)."""
        ...


def zeros(weights: Weights, batch: int, state: int) -> Tensor:
    """A state (P, B, S) of zeros beside the weights: same dtype, same device."""
    some = next(iter(weights.values()))
    return some.new_zeros(len(some), batch, state)


# How a step uses its weights. Written in these words, a step can be taken apart: an online gradient rule then sees the
# links (`linear`, `affine`) and the single values (`row`) that the next state is made of (see `trainers.gradient.taps`).


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """`weight (P, N, M)`, or whole rows of one `[:, a:b]`, applied to `x (P, B, M)`: (P, B, N)."""
    return torch.bmm(x, weight.mT) if isinstance(weight, Tensor) else weight.linear(x)


def affine(weight: Tensor, x: Tensor, base: Tensor) -> Tensor:
    """`weight (P, N, M)` applied to `x (P, B, M)` plus `base (P, B, N)`, or (P, 1, N) as a bias: (P, B, N)."""
    return torch.baddbmm(base, x, weight.mT) if isinstance(weight, Tensor) else weight.affine(x, base)


def row(weight: Tensor) -> Tensor:
    """One value a unit, `weight (P, N)`, as it stands beside every sequence: (P, 1, N). Biases, peepholes, time constants."""
    return weight[:, None] if isinstance(weight, Tensor) else weight.row()
