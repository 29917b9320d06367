"""Real-time recurrent learning (Robinson and Fallside 1987; Williams and Zipser 1989, Neural Computation 1).

J_t = D_t J_{t-1} + I_t,   gradient_t = δ_t J_t: credit is carried forward, so every step's gradient is known at that step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout
from trainers.gradient.estimator import Memory, attached, folded, jacobian, multiply_adds

HANDED_OVER = 16


@dataclass(frozen=True)
class RTRL:
    """Exact; the influence matrix is carried at every step, so memory does not grow with the sequence."""

    exact = True

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """Steps handed over together, to save calls; credit is carried at every one of them."""
        return min(HANDED_OVER, steps)

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
        layout, count, s, influence = Layout(cell.leaves()), cell.state, memory["s"], memory["J"]
        copies = rows.detach().repeat_interleave(count, dim=0)  # one row for each derivative of each state column
        weights = {name: leaf.detach().requires_grad_() for name, leaf in layout.unpack(copies).items()}
        basis = torch.eye(count, dtype=s.dtype, device=s.device).repeat(len(rows), 1)[:, None]
        steps = []
        for now in inputs.unbind(dim=2):
            with torch.enable_grad():
                here = s.repeat_interleave(count, dim=0).requires_grad_()
                after = cell.step(weights, now.repeat_interleave(count, dim=0), here)
                d, *i = torch.autograd.grad(after, (here, *weights.values()), basis, materialize_grads=True)
            s = after.detach()[::count]
            immediate = layout.pack(dict(zip(weights, i, strict=True))).view_as(influence)
            influence = torch.baddbmm(immediate, d.view(len(rows), count, count), influence)  # J_t = D_t J_{t-1} + I_t
            steps.append(attached(rows, s, influence))
        states = torch.stack(steps, dim=2)
        return states.view(len(genes), len(x), *states.shape[2:]), {"s": s, "J": influence}

    def passes(self, cell: Cell, forward: float, steps: int) -> float:  # noqa: ARG002
        """S times forward and back through the step; D_t J_{t-1} (S² D) and δ_t J_t (S D); the readout both ways."""
        layout, state = Layout(cell.leaves()), cell.state
        step = multiply_adds(layout)
        return (3 * (forward - step) + 3 * state * step + state * (state + 1) * layout.size) / forward
