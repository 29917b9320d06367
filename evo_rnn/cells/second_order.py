"""Second-order network (Giles et al. 1992, Neural Computation 4; Pollack 1991, Machine Learning 7).

s_i(t+1) = f( sum_jk w_ijk s_j(t) x_k(t) + b_i ): a link hears the product of a unit and an input, so each input symbol
chooses its own recurrent matrix, and a transition of an automaton, from state j on symbol k to state i, is one gene.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights

ACTIVATIONS = {"logistic": torch.sigmoid, "tanh": torch.tanh}


@dataclass(frozen=True)
class SecondOrder:
    """h_i' = f(sum over j and k of w_ijk h_j x_k + b_i): units that hear products of a unit and an input.

    Args:
        inputs: I; the papers give symbols, one-hot.
        hidden: H.
        activation: f, "logistic" (the papers') or "tanh".
    """

    inputs: int
    hidden: int
    activation: str = "logistic"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation should be one of {sorted(ACTIVATIONS)} but is {self.activation!r}.")

    @property
    def outputs(self) -> int:
        """H; the papers read their answer from unit 0."""
        return self.hidden

    @property
    def state(self) -> int:
        """H."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, H I), b (H,); column j I + k of W hears the product of unit j and input k, named `h[j]*x[k]`."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        pairs = [f"{unit}*{value}" for unit in h for value in x]
        return (matrix("recurrent", h, pairs), vector("bias", h, ["one"], -0.5, 0.5))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """The papers' first state: unit 0 is one, all others are zero. From zeros no weight would ever be heard."""
        s = zeros(weights, batch, self.state)
        s[..., 0] = 1
        return s

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick of all units at once."""
        pairs = (s[..., :, None] * x[..., None, :]).flatten(2)  # (P, B, H I), the unit's index first
        return ACTIVATIONS[self.activation](affine(weights["recurrent"], pairs, row(weights["bias"])))
