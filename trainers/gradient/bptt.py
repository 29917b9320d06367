"""Backpropagation through time (Werbos 1990, Proc. IEEE 78): unroll, then let the tape carry credit back.

λ_t = δ_t + λ_{t+1} D_{t+1},   gradient = Σ_t λ_t I_t.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout
from trainers.gradient.estimator import Memory, unrolled


@dataclass(frozen=True)
class BPTT:
    """Exact; the whole sequence is one block, so memory grows with its length."""

    exact = True

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """All steps."""
        return steps

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, attached."""
        return {"s": cell.start(Layout(cell.leaves()).unpack(genes), batch)}

    def advance(self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Run forward; autograd's tape is the memory of the way back."""
        states = unrolled(cell, genes, x.expand(len(genes), *x.shape), memory["s"])
        return states, {"s": states[:, :, -1]}

    def passes(self, cell: Cell, forward: float, steps: int) -> float:  # noqa: ARG002
        """Forward, and twice as much back: by the states and by the weights."""
        return 3.0
