"""The BPTT/RTRL hybrid by blocks (Schmidhuber 1992, Neural Computation 4, A fixed size storage O(n³) algorithm).

Inside a block of h steps the tape carries credit; across blocks the influence matrix does. With s_0 the state and J_0 the
influence at the block's start:   gradient = ∂L/∂θ + (∂L/∂s_0) J_0,   J_h = ∂s_h/∂θ + (∂s_h/∂s_0) J_0.
One step a block is RTRL, one block for all is BPTT; in between it is exact with fixed memory at the cost O(n³) a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout
from trainers.gradient.estimator import Memory, attached, folded, jacobian, multiply_adds, unrolled
from trainers.gradient.rtrl import RTRL


@dataclass(frozen=True)
class Hybrid:
    """Exact for every block length: BPTT inside blocks, RTRL between them.

    Args:
        horizon: steps a block; 0 takes the number of state columns, but no fewer than 16.
    """

    horizon: int = 0
    exact = True

    def __post_init__(self) -> None:
        if self.horizon < 0:
            raise ValueError(f"horizon should be at least 1 step, or 0 for the usual choice, but is {self.horizon}.")

    def block(self, cell: Cell, steps: int) -> int:
        """The horizon, or all steps if there are fewer."""
        return min(self.horizon or max(cell.state, 16), steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """As RTRL begins."""
        return RTRL().begin(cell, genes, batch)

    def advance(self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Enter the block by the edge, run it on the tape, and leave with the influence at its end."""
        rows, inputs = folded(genes, x)
        with torch.enable_grad():
            s = attached(rows, memory["s"], memory["J"])
            states = unrolled(cell, rows, inputs, s)
        last = states[:, :, -1]
        (influence,) = jacobian(last, (rows,), keep=True)  # the edge adds (∂s_h/∂s_0) J_0
        after = {"s": last.detach(), "J": influence.detach()}
        return states.view(len(genes), len(x), *states.shape[2:]), after

    def passes(self, cell: Cell, forward: float, steps: int) -> float:
        """BPTT's three; S more sweeps back through the block; and each sweep's product with J_0, once a block."""
        layout = Layout(cell.leaves())
        sweep, state = 2 * multiply_adds(layout), cell.state
        edge = state * (state + 1) * layout.size / self.block(cell, steps)
        return 3 + (state * sweep + edge) / forward
