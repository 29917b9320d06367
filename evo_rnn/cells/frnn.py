"""Fully recurrent network with a topology mask (Williams and Zipser 1989, Neural Computation 1, eq. 2.1-2.3).

Every unit may hear every unit and every input; which links exist is all that a topology is. With the right mask it is
an Elman, a Jordan or an independently recurrent network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights


@dataclass(frozen=True)
class FRNN:
    """s' = tanh(W x + U s + b) over the links that the mask allows; the first `outputs` units are the output.

    Args:
        inputs: I.
        hidden: number of units, outputs among them.
        visible: how many units are outputs; 0 means all.
        mask: one string a unit, "1" where a link exists, over [inputs, units]; empty means every link.
    """

    inputs: int
    hidden: int
    visible: int = 0
    mask: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        width = self.inputs + self.hidden
        if self.mask and [len(row) for row in self.mask] != [width] * self.hidden:
            raise ValueError(
                f"mask should have {self.hidden} rows of {width} digits (inputs, then units) but has rows of "
                f"{[len(row) for row in self.mask]}. Give one row for each unit."
            )
        if set("".join(self.mask)) - {"0", "1"}:
            raise ValueError(f"mask should hold only the digits 0 and 1 but is {self.mask}.")
        for part, start, end in (("input", 0, self.inputs), ("recurrent", self.inputs, width)):
            if self.mask and not any("1" in row[start:end] for row in self.mask):
                raise ValueError(f"mask should allow at least one {part} link but allows none. Set a digit to 1.")

    @property
    def outputs(self) -> int:
        """The number of visible units."""
        return self.visible or self.hidden

    @property
    def state(self) -> int:
        """All units."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, I), U (H, H), b (H,); genes only for the links that exist."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (
            matrix("input", h, x, self._free(0, self.inputs)),
            matrix("recurrent", h, h, self._free(self.inputs, self.inputs + self.hidden)),
            vector("bias", h, ["one"], -0.5, 0.5),
        )

    def _free(self, start: int, end: int) -> tuple[int, ...]:
        digits = "".join(row[start:end] for row in self.mask)
        free = tuple(i for i, digit in enumerate(digits) if digit == "1")
        return free if len(free) < len(digits) else ()

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick of all units at once."""
        driven = affine(weights["input"], x, row(weights["bias"]))
        return torch.tanh(affine(weights["recurrent"], s, driven))
