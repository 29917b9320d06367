"""Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; peepholes: Gers et al. 2002)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights


@dataclass(frozen=True)
class LSTM:
    """c' = f c + i g, h' = o tanh(c'); the state is [h | c], the gates lie in the order i, f, g, o of torch.nn.

    Args:
        inputs: I.
        hidden: H.
        peepholes: the gates i and f also see c, and o sees c', element-wise.
    """

    inputs: int
    hidden: int
    peepholes: bool = False

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """2 H."""
        return 2 * self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (4H, I), U (4H, H), b (4H,), and peepholes (H,) for i, f and o."""
        h, c, x = units("h", self.hidden), units("c", self.hidden), units("x", self.inputs)
        gates = [name for gate in ("i", "f", "g", "o") for name in units(gate, self.hidden)]
        bound = 1.0 / self.hidden**0.5
        dense = (matrix("input", gates, x), matrix("recurrent", gates, h), vector("bias", gates, ["one"], -0.5, 0.5))
        peeps = [vector(f"peephole_{g}", units(g, self.hidden), c, -bound, bound) for g in ("i", "f", "o")]
        return (*dense, *peeps) if self.peepholes else dense

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick."""
        h, c = s.split(self.hidden, dim=2)
        gates = affine(weights["recurrent"], h, affine(weights["input"], x, row(weights["bias"])))
        i, f, g, o = gates.split(self.hidden, dim=2)
        if self.peepholes:
            i = i + row(weights["peephole_i"]) * c
            f = f + row(weights["peephole_f"]) * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if self.peepholes:
            o = o + row(weights["peephole_o"]) * c
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], dim=2)
