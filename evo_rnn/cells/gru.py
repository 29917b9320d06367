"""Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078, eq. 5-8), with the reset gate before or after the product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, linear, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights


@dataclass(frozen=True)
class GRU:
    """h' = (1 - z) n + z h with the update gate z, the reset gate r and the candidate n; gates in torch.nn's order r, z, n.

    Args:
        inputs: I.
        hidden: H.
        reset: "after": n = tanh(W x + b + r (U h + d)), as torch.nn and cuDNN;
            "before": n = tanh(W x + b + U (r h)), as in the paper.
    """

    inputs: int
    hidden: int
    reset: str = "after"

    def __post_init__(self) -> None:
        if self.reset not in ("after", "before"):
            raise ValueError(f"reset should be 'after' or 'before' but is {self.reset!r}.")

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """H."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (3H, I), U (3H, H), b (3H,), and d (H,) in the reset-after form."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        gates = [name for gate in ("r", "z", "n") for name in units(gate, self.hidden)]
        dense = (matrix("input", gates, x), matrix("recurrent", gates, h), vector("bias", gates, ["one"], -0.5, 0.5))
        inner = vector("reset_bias", units("n", self.hidden), ["r*one"], -0.5, 0.5)
        return (*dense, inner) if self.reset == "after" else dense

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick."""
        two = 2 * self.hidden
        driven = affine(weights["input"], x, row(weights["bias"]))
        if self.reset == "after":
            echoed = linear(weights["recurrent"], s)
            r, z = torch.sigmoid(driven[..., :two] + echoed[..., :two]).split(self.hidden, dim=2)
            n = torch.tanh(driven[..., two:] + r * (echoed[..., two:] + row(weights["reset_bias"])))
        else:
            gates = affine(weights["recurrent"][:, :two], s, driven[..., :two])
            r, z = torch.sigmoid(gates).split(self.hidden, dim=2)  # eq. 5, 6
            n = torch.tanh(affine(weights["recurrent"][:, two:], r * s, driven[..., two:]))  # eq. 8
        after: Tensor = (1 - z) * n + z * s
        return after  # eq. 7
