"""Real-time recurrent learning (Robinson and Fallside 1987; Williams and Zipser 1989, Neural Computation 1).

J_t = D_t J_{t-1} + I_t,   gradient_t = δ_t J_t: credit is carried forward, so every step's gradient is known at that step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout
from trainers.gradient.estimator import Attach, Memory, folded, jacobian, multiply_adds


@dataclass(frozen=True)
class RTRL:
    """The influence matrix is carried at every step; memory does not grow with the sequence."""

    exact = True

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One step."""
        return 1

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start and what it owes to the genes: nothing, unless the start is learned."""
        rows, _ = folded(genes.detach(), genes.new_zeros(batch, 1, cell.inputs))
        rows.requires_grad_()
        s = cell.start(Layout(cell.leaves()).unpack(rows), 1)
        owed = jacobian(s, (rows,))[0] if s.requires_grad else s.new_zeros(len(rows), cell.state, rows.shape[1])
        return {"s": s.detach(), "J": owed}

    def advance(self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One tick a time: state and influence go forward together."""
        rows, inputs = folded(genes, x)
        layout, s, influence = Layout(cell.leaves()), memory["s"], memory["J"]
        steps = []
        for now in inputs.unbind(dim=2):
            with torch.enable_grad():
                here, theta = s.detach().requires_grad_(), rows.detach().requires_grad_()
                after = cell.step(layout.unpack(theta), now, here)
                d, i = jacobian(after, (here, theta))
            s = after.detach()
            influence = torch.baddbmm(i, d[:, :, 0], influence)  # J_t = D_t J_{t-1} + I_t
            steps.append(Attach.apply(rows, s, influence))
        states = torch.stack(steps, dim=2)
        return states.view(len(genes), len(x), *states.shape[2:]), {"s": s, "J": influence}

    def passes(self, cell: Cell, forward: float, steps: int) -> float:  # noqa: ARG002
        """Forward; S sweeps back through the step, by states and weights; D_t J_{t-1} (S² D) and δ_t J_t (S D)."""
        layout = Layout(cell.leaves())
        sweep, state = 2 * multiply_adds(layout), cell.state
        readout = 2 * (forward - multiply_adds(layout))
        return 1 + (readout + state * sweep + state * (state + 1) * layout.size) / forward
